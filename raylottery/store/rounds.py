"""The store: finished rounds under their keys, the snapshots of trunks, and notes of failures.

A round is done if and only if its record is there. A commit puts the round's files first, in a
folder that no other writer has, and the record last and whole; of two writers the first one's
record wins, and the second gets it back. What is read is checked: a record against its key, a file
against the checksum in its record, a snapshot against its own.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast

from raylottery import __version__
from raylottery.errors import StoreError
from raylottery.spec.fingerprint import fingerprint
from raylottery.store import layout
from raylottery.store.files import Files
from raylottery.store.lease import Lease, Leases
from raylottery.store.opening import find_files, open_files, writable_files
from raylottery.store.record import (
    Failure,
    Record,
    Result,
    StoredFile,
    damaged,
    failure_from_bytes,
    failure_to_bytes,
)
from raylottery.store.sealed import open_seal


if TYPE_CHECKING:
    from raylottery.spec import Round


Item = TypeVar("Item")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

READERS = 16


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was written."""

    message: str
    remove: str
    """The file whose removal mends it: what it stood for is then made anew by the next run."""

    def __str__(self) -> str:
        return self.message


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
        """The names of the sweeps it holds."""
        names = self.files.list(layout.SWEEPS)
        return [name for name in names if self.files.exists(layout.sweep_file(name))]

    # Rounds

    def record(self, key: str) -> Record | None:
        """The record of a round, or None if the round is not done."""
        path = layout.record(key)
        try:
            data = self.files.read(path)
        except FileNotFoundError:
            return None
        return Record.from_bytes(data, key, self.files.where(path))

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """The records of those rounds that are done."""
        keys = list(keys)
        found = zip(keys, in_parallel(self.record, keys), strict=True)
        return {key: record for key, record in found if record is not None}

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
        kept = self.record(round.key) or self._put(record, files)
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
        """A file of a round, checked; StoreError if it is missing or not what was written."""
        file = record.files.get(name)
        if file is None:
            place = self.files.where(layout.record(record.key))
            raise StoreError(damaged(place, f"it names no {name}"))
        path = layout.round_file(record.key, file.path)
        try:
            data = self.files.read(path)
        except FileNotFoundError as error:
            raise StoreError(damaged(self.files.where(path), "it is missing")) from error
        if StoredFile.of(file.path, data) != file:
            problem = f"its {len(data)} bytes do not have the checksum that its record names"
            raise StoreError(damaged(self.files.where(path), problem))
        return data

    # Snapshots

    def snapshot(self, trunk: str, step: int) -> bytes | None:
        """The weights of a trunk after `step` updates, if somebody kept them."""
        path = layout.snapshot(trunk, step)
        try:
            return self._sealed(path)
        except ValueError as error:
            raise StoreError(damaged(self.files.where(path), str(error))) from error

    def put_snapshot(self, trunk: str, step: int, data: bytes) -> None:
        """Keeps the weights of a trunk after `step` updates, as `tickets.pack` gives them."""
        open_seal(data)
        self.files.create_exclusive(layout.snapshot(trunk, step), data)

    # Work under way

    def aside(self, key: str) -> bytes | None:
        """What an unfinished round had come to when it was put aside last, if that is whole."""
        path = layout.aside(key)
        try:
            return self._sealed(path)
        except ValueError as error:
            log.warning("%s is damaged: %s. The round begins anew", self.files.where(path), error)
            return None

    def put_aside(self, key: str, data: bytes) -> None:
        """Keeps what an unfinished round has come to, in place of what was kept before."""
        open_seal(data)
        self.files.write(layout.aside(key), data)

    def lease(self, key: str) -> Lease | None:
        """The right to train a round, or None while someone else has it."""
        return self._leases.acquire(key)

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
        number = 1 + len(self._failure_paths(key))
        while not self.files.create_exclusive(layout.failure(key, number), data):
            number += 1
        return failure_from_bytes(data, layout.failure(key, number))

    def failures(self, key: str) -> list[Failure]:
        """The notes of a round's failed attempts, first to last."""
        notes = [self._failure(path) for path in self._failure_paths(key)]
        return sorted(notes, key=lambda note: (note["attempt"], note["at"]))

    # Soundness

    def check(self) -> Iterator[Problem]:
        """Everything in the store that is not as it was written."""
        for shelf in self.files.list(layout.ROUNDS):
            keys = filter(layout.is_key, self.files.list(f"{layout.ROUNDS}/{shelf}"))
            for problems in in_parallel(self._check_round, keys):
                yield from problems
        for shelf in self.files.list(layout.SNAPSHOTS):
            for name in self.files.list(f"{layout.SNAPSHOTS}/{shelf}"):
                yield from self._check_sealed(f"{layout.SNAPSHOTS}/{shelf}/{name}")

    def _check_round(self, key: str) -> list[Problem]:
        problems = []
        try:
            record = self.record(key)
            if record is not None:
                for name in record.files:
                    self.read_file(record, name)
        except StoreError as error:
            problems.append(Problem(str(error), layout.record(key)))
        problems += self._check_sealed(layout.aside(key))
        for path in self._failure_paths(key):
            try:
                self._failure(path)
            except StoreError as error:
                problems.append(Problem(str(error), path))
        return problems

    def _check_sealed(self, path: str) -> list[Problem]:
        try:
            self._sealed(path)
        except ValueError as error:
            return [Problem(damaged(self.files.where(path), str(error)), path)]
        return []

    def _sealed(self, path: str) -> bytes | None:
        """A sealed file, if it is there; ValueError if it is not what was sealed."""
        try:
            data = self.files.read(path)
        except FileNotFoundError:
            return None
        open_seal(data)
        return data

    def _failure_paths(self, key: str) -> list[str]:
        folder = layout.failures(key)
        return [f"{folder}/{name}" for name in self.files.list(folder)]

    def _failure(self, path: str) -> Failure:
        return failure_from_bytes(self.files.read(path), self.files.where(path))


def in_parallel(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """The answers for all items, in order, waiting for many of them at once."""
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        return list(readers.map(function, items))
