"""TensorBoard: an event file for each lineage, under its arm's folder.

A file is only ever appended to, for TensorBoard reads it on while it grows. What is in it need not
be told again; a last event that a killed driver left half written is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tensorboardX.proto.event_pb2 import Event  # ty: ignore
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # ty: ignore
from tensorboardX.proto.summary_pb2 import Summary  # ty: ignore
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams

from raylottery.driver.track import Step
from raylottery.errors import UsageError
from raylottery.spec import Lineage
from raylottery.store import Store, layout
from raylottery.store.local import LocalFiles


class TensorBoard:
    """Event files below a folder of this machine."""

    name = "tensorboard"

    def __init__(self, folder: Path):
        self.folder = folder
        self.look = f"tensorboard --logdir {shlex.quote(str(folder))}"
        self.files: dict[str, Path] = {}

    @classmethod
    def open(cls, where: str, sweep: str, store: Store) -> TensorBoard:
        """Event files in the folder `where`, or in the sweep's own folder of a local store."""
        if "://" in where:
            raise UsageError(f"--track tensorboard:{where}: give a folder of this machine")
        if not where and not isinstance(store.files, LocalFiles):
            raise UsageError(
                "--track tensorboard: the store is no folder of this machine, and TensorBoard "
                "reads files as they grow. Name a folder for them: --track tensorboard:DIR"
            )
        place = where or store.files.where(layout.sweep_file(sweep, "tensorboard"))
        folder = Path(os.path.abspath(os.path.expanduser(place)))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--track tensorboard: {folder} cannot be made: {error.strerror}. Name another "
                f"folder: --track tensorboard:DIR"
            ) from error
        return cls(folder)

    def tell(self, lineage: Lineage, steps: Sequence[Step], *, complete: bool) -> None:
        path = self._file(lineage)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another driver may train the same sweep
            shown, end = read(file)
            file.truncate(end)
            if end == 0:
                append(file, Event(wall_time=steps[0].at, file_version="brain.Event:2"))
                append(file, Event(wall_time=steps[0].at, summary=session(lineage, steps[0].at)))
            for step in steps:
                new = {k: v for k, v in step.values.items() if (k, step.number) not in shown}
                values = [Summary.Value(tag=k, simple_value=v) for k, v in new.items()]
                if values:
                    summary = Summary(value=values)
                    append(file, Event(wall_time=step.at, step=step.number, summary=summary))

    def close(self) -> None:
        """Files are closed whenever they are not written."""

    def _file(self, lineage: Lineage) -> Path:
        """A lineage's file. A sweep that gained an axis has new labels: its folder is renamed."""
        if lineage.id not in self.files:
            folder = self.folder / plain(lineage.arm.label) / f"seed-{lineage.seed}-{lineage.id}"
            before = next(self.folder.glob(f"*/seed-*-{lineage.id}"), folder)
            if before != folder:
                folder.parent.mkdir(parents=True, exist_ok=True)
                before.rename(folder)
                with contextlib.suppress(OSError):
                    before.parent.rmdir()
            self.files[lineage.id] = folder / f"events.out.tfevents.0.{lineage.id}"
        return self.files[lineage.id]


def plain(label: str) -> str:
    """An arm's label as a folder's name."""
    return re.sub(r"[^\w=.,+-]+", "_", label).strip("._")[:100] or "base"


def session(lineage: Lineage, began: float) -> Summary:
    """What the HPARAMS page knows: the arm's values, its seeds being one group."""
    values = {
        path: value if isinstance(value, bool | int | float | str) else str(value)
        for path, value in lineage.arm.values.items()
    }
    summary = hparams(values, {})[1]
    told = summary.value[0].metadata.plugin_data
    data = HParamsPluginData.FromString(told.content)
    data.session_start_info.group_name = lineage.arm.id
    data.session_start_info.start_time_secs = began
    told.content = data.SerializeToString(deterministic=True)
    return summary


HEADER, CHECK = struct.Struct("<QI"), struct.Struct("<I")


def append(file: BinaryIO, event: Event) -> None:
    """An event, framed as TensorBoard expects it, in one write."""
    data = event.SerializeToString(deterministic=True)
    size = struct.pack("<Q", len(data))
    file.write(size + CHECK.pack(masked_crc32c(size)) + data + CHECK.pack(masked_crc32c(data)))
    file.flush()


def read(file: BinaryIO) -> tuple[set[tuple[str, int]], int]:
    """What a file shows, by tag and step, and where its last whole event ends."""
    file.seek(0)
    shown, end = set(), 0
    for event, size in frames(file.read()):
        shown |= {(value.tag, event.step) for value in event.summary.value}
        end += size
    return shown, end


def frames(data: bytes) -> Iterator[tuple[Event, int]]:
    """The whole events at the beginning of some bytes, each with its size."""
    at = 0
    while len(data) - at >= HEADER.size + CHECK.size:
        length, check = HEADER.unpack_from(data, at)
        end = at + HEADER.size + length + CHECK.size
        if check != masked_crc32c(data[at : at + 8]) or end > len(data):
            return
        body = data[at + HEADER.size : end - CHECK.size]
        if CHECK.unpack_from(data, end - CHECK.size)[0] != masked_crc32c(body):
            return
        yield Event.FromString(body), end - at
        at = end
