"""The store: finished rounds under their keys, the snapshots of trunks, and notes of failures.

A round is done if and only if its record is there. A commit puts the round's files first, in a
folder that no other writer has, and the record last and whole; of two writers the first one's
record wins, and the second gets it back. What is read is checked: a record against its key and its
checksum, a file against the checksum in its record, a snapshot against its own.

A damaged record counts as none. Whoever holds the round's lease sets it aside, by another name in
the same folder, and trains the round again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from raylottery import __version__
from raylottery.errors import Damaged, LostRound, NotKept, StoreError
from raylottery.spec.fingerprint import fingerprint
from raylottery.store import layout
from raylottery.store.damage import damaged, refuse_newer
from raylottery.store.files import Files
from raylottery.store.lease import Lease, Leases
from raylottery.store.opening import find_files, open_files, writable_files
from raylottery.store.record import (
    Failure,
    Record,
    Result,
    StoredFile,
    failure_from_bytes,
    failure_to_bytes,
)
from raylottery.store.sealed import open_seal, seal
from raylottery.store.trimmed import has_gone, not_kept


if TYPE_CHECKING:
    from raylottery.spec import Round


Item = TypeVar("Item")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

READERS = 16
PLACE = "place"
"""What a sealed file says of itself: where it belongs, so that a copy elsewhere is seen as one."""


class Store:
    """Where results live."""

    def __init__(self, files: Files, *, patience: float = 30.0, beat: float = 5.0):
        self.files = files
        self._leases = Leases(files, patience=patience, beat=beat)

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> Store:
        """A store to write to, made if it is missing; UsageError where that cannot be."""
        return cls(writable_files(uri))

    @classmethod
    def existing(cls, uri: str | os.PathLike[str]) -> Store:
        """A store to read; NotFoundError if there is none."""
        return cls(open_files(uri))

    @classmethod
    def find(cls, uri: str | os.PathLike[str]) -> Store | None:
        """A store to read, or None where there is none yet."""
        files = find_files(uri)
        return None if files is None else cls(files)

    @property
    def uri(self) -> str:
        """What opens this store again, from any folder."""
        return self.files.where("")

    def sweeps(self) -> list[str]:
        """The names of the sweeps it holds; one that lost its description still has tables."""
        names = filter(layout.is_sweep, self.files.list(layout.SWEEPS))
        return [name for name in names if self._is_sweep(name)]

    def _is_sweep(self, name: str) -> bool:
        return self.files.exists(layout.sweep_file(name)) or any(
            file.endswith(".parquet") for file in self.files.list(layout.sweep_folder(name))
        )

    # Rounds

    def record(self, key: str) -> Record | None:
        """The record of a round, or None if the round is not done; LostRound if it is damaged."""
        path = layout.record(key)
        try:
            data = self.files.read(path)
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise LostRound(str(error), key) from error
        try:
            return Record.from_bytes(data, key)
        except ValueError as error:
            refuse_newer(data, self.files.where(path))
            raise LostRound(damaged(self.files, path, str(error)), key) from error

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """The records of those rounds that are done; a damaged one is told of, and is none."""
        keys = list(keys)
        found = zip(keys, in_parallel(self._sound_record, keys), strict=True)
        return {key: record for key, record in found if record is not None}

    def _sound_record(self, key: str) -> Record | None:
        try:
            return self.record(key)
        except LostRound as lost:
            tell(lost)
            return None

    def done(self, keys: Iterable[str]) -> set[str]:
        """Those of the rounds that are done."""
        return set(self.records(keys))

    def commit(
        self,
        round: Round,
        *,
        files: Mapping[str, bytes],
        result: Mapping[str, object],
        sweep: str,
        attempt: int,
        seconds: float,
        started_at: datetime,
        finished_at: datetime,
        device: str,
    ) -> Record:
        """Puts a finished round into the store. Returns its record, or that of who was first."""
        if fingerprint(round.spec) != round.key:
            raise ValueError(f"the spec of round {round.key} does not have that key")
        folder = layout.attempt_folder(attempt, secrets.token_hex(8))
        record = Record(
            key=round.key,
            parent=round.parent,
            spec=round.spec,
            trained_by=sweep,
            attempt=attempt,
            files={
                name: StoredFile.of(f"{folder}/{name}", data)
                for name, data in sorted(files.items())
            },
            result=cast("Result", result),
            seconds=seconds,
            started_at=started_at,
            finished_at=finished_at,
            host=socket.gethostname(),
            device=device,
            version=__version__,
        )
        try:
            kept = self.record(round.key)
        except LostRound as lost:
            self._put_away(lost)
            kept = None
        kept = kept or self._put(record, files)
        self.files.delete(layout.aside(round.key))
        return kept

    def _put(self, record: Record, files: Mapping[str, bytes]) -> Record:
        """Files first, the record last."""
        places = {
            layout.round_file(record.key, file.path): files[name]
            for name, file in record.files.items()
        }
        for place, data in places.items():
            self.files.write(place, data)
        if self.files.create_exclusive(layout.record(record.key), record.to_bytes()):
            return record
        for place in places:
            self.files.delete(place)
        first = self.record(record.key)
        if first is None:
            raise StoreError(
                f"{self.files.where(layout.record(record.key))} vanished while it was written. If "
                "another program removes files of this store, stop it; then run the sweep again."
            )
        return first

    def read_file(self, record: Record, name: str) -> bytes:
        """A file of a round, checked; LostRound if it is missing or not what was written, and
        NotKept if a sweep let it go."""
        file, key = record.files.get(name), record.key
        if file is None:
            problem = f"it names no {name}"
            raise LostRound(damaged(self.files, layout.record(key), problem), key)
        path = layout.round_file(key, file.path)
        try:
            data = self.files.read(path)
        except FileNotFoundError as error:
            if note := has_gone(record, name, self.files):
                raise not_kept(key, name, note) from error
            raise LostRound(damaged(self.files, path, "it is missing"), key) from error
        except Damaged as error:
            raise LostRound(str(error), key) from error
        if StoredFile.of(file.path, data) != file:
            problem = f"its {len(data)} bytes do not have the checksum that its record names"
            raise LostRound(damaged(self.files, path, problem), key)
        return data

    def loss(self, key: str) -> LostRound | None:
        """What is damaged of a finished round, if anything is; what was let go is no damage."""
        return next((lost for lost in self._losses(key) if not isinstance(lost, NotKept)), None)

    def _losses(self, key: str) -> Iterator[LostRound]:
        try:
            record = self.record(key)
        except LostRound as lost:
            yield lost
            return
        if record is not None:
            for name in record.files:
                try:
                    self.read_file(record, name)
                except LostRound as lost:
                    yield lost

    def set_aside(self, key: str, *, quiet: bool = False) -> bool:
        """Makes a round that is damaged, or not kept whole, one to be trained: its record is
        renamed, no more.

        It is left alone if it is sound after all, for someone may have trained it again meanwhile.
        False while someone else has its lease.
        """
        lease = self._leases.acquire(key)
        if lease is None:
            return False
        with lease:
            for lost in self._losses(key):
                self._put_away(lost, quiet=quiet and isinstance(lost, NotKept))
                break
        return True

    def was_set_aside(self, key: str) -> bool:
        """Whether a round was done once, and turned out to be damaged."""
        return bool(self.files.list(layout.set_asides(key)))

    def _put_away(self, lost: LostRound, *, quiet: bool = False) -> None:
        """The holder of the round's lease makes it one that is not done."""
        if not quiet:
            tell(lost)
        number = 1 + len(self.files.list(layout.set_asides(lost.key)))
        self.files.move(layout.record(lost.key), layout.set_aside(lost.key, number))

    # Snapshots

    def snapshot(self, trunk: str, step: int) -> bytes | None:
        """The weights of a trunk after `step` updates, if somebody kept them, and whole."""
        path = layout.snapshot(trunk, step)
        try:
            return self.sealed(path)
        except Damaged as error:
            tell(error)
            return None

    def put_snapshot(self, trunk: str, step: int, data: bytes) -> None:
        """Keeps the weights of a trunk after `step` updates, as `tickets.pack` gives them."""
        path = layout.snapshot(trunk, step)
        data = _sealed_for(path, data)
        if not self.files.create_exclusive(path, data) and self.snapshot(trunk, step) is None:
            self.files.write(path, data)

    # Work under way

    def aside(self, key: str) -> bytes | None:
        """What an unfinished round had come to when it was put aside last, if that is whole."""
        try:
            return self.sealed(layout.aside(key))
        except Damaged as error:
            log.warning("%s. The round begins anew", error)
            return None

    def put_aside(self, key: str, data: bytes) -> None:
        """Keeps what an unfinished round has come to, in place of what was kept before."""
        path = layout.aside(key)
        self.files.write(path, _sealed_for(path, data))

    def lease(self, key: str) -> Lease | None:
        """The right to train a round, or None while someone else has it.

        A damaged record of the round is set aside.
        """
        lease = self._leases.acquire(key)
        if lease is None:
            return None
        with contextlib.ExitStack() as held:
            held.enter_context(lease)
            try:
                self.record(key)
            except LostRound as lost:
                self._put_away(lost)
                lease.begin_anew()
            held.pop_all()
        return lease

    def is_held(self, key: str) -> bool:
        """Whether someone has a round's lease, and is not known to be gone."""
        return self._leases.is_held(key)

    def held_among(self, keys: Iterable[str]) -> set[str]:
        """Those of the rounds whose leases were seen to live, which may take a while to see."""
        return self._leases.living(keys)

    def look(self, key: str) -> str:
        """Whether a round is `done`, `held` by someone who trains it, or `free`."""
        if self.done([key]):
            return "done"
        lease = self.lease(key)
        if lease is None:
            return "held"
        lease.release()
        return "free"

    def fail(self, key: str, note: Mapping[str, object]) -> Failure:
        """Notes a failed attempt at a round; `attempt` is filled in if the note has none."""
        note = {"attempt": self._leases.attempt(key), **note}
        data = failure_to_bytes(note)
        number = 1 + len(self.failure_paths(key))
        while not self.files.create_exclusive(layout.failure(key, number), data):
            number += 1
        return failure_from_bytes(data)

    def failures(self, key: str) -> list[Failure]:
        """The notes of a round's failed attempts, first to last; a damaged one is told of."""
        notes = []
        for path in self.failure_paths(key):
            try:
                notes.append(self.failure(path))
            except Damaged as error:
                tell(error)
        return sorted(notes, key=lambda note: (note["attempt"], note["at"]))

    def sealed(self, path: str) -> bytes | None:
        """A sealed file, if it is there; Damaged if it is not what was sealed for this place."""
        try:
            data = self.files.read(path)
            place = open_seal(data).get(PLACE, path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Damaged(damaged(self.files, path, str(error))) from error
        if place != path:
            raise Damaged(damaged(self.files, path, f"it is a copy of {place}"))
        return data

    def failure_paths(self, key: str) -> list[str]:
        folder = layout.failures(key)
        return [f"{folder}/{name}" for name in self.files.list(folder)]

    def failure(self, path: str) -> Failure:
        try:
            return failure_from_bytes(self.files.read(path))
        except FileNotFoundError as error:
            raise Damaged(damaged(self.files, path, "it is gone")) from error
        except ValueError as error:
            raise Damaged(damaged(self.files, path, str(error))) from error


def _sealed_for(path: str, data: bytes) -> bytes:
    """A sealed file that says where it belongs; ValueError if it is none."""
    return seal(data, {**open_seal(data), PLACE: path})


_told: set[str] = set()


def tell(error: Damaged) -> None:
    """Warn of damage that is lived with, once in a process however often it is met."""
    if str(error) not in _told:
        _told.add(str(error))
        log.warning("%s", error)


def in_parallel(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """The answers for all items, in order, waiting for many of them at once."""
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        return list(readers.map(function, items))
