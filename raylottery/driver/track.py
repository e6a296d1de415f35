"""Trackers: programs that people watch trainings with, told of every round that is committed.

What a tracker shows comes from the records in the store. So it is also right after a resume, or
where it is named for the first time when half of a sweep is trained: a lineage is one run of the
tracker, a round one step of it, and what a tracker has it is not told again. Telling goes on
beside the training and never holds it up; a tracker that fails ends no sweep.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from raylottery.driver.plan import Plan
from raylottery.driver.provenance import without_credentials
from raylottery.driver.watch import Watcher
from raylottery.errors import UsageError, did_you_mean
from raylottery.spec import Lineage, Round
from raylottery.store import Record, Store


SCALARS = ("score", "density", "train_score", "loss")


@dataclass(frozen=True)
class Step:
    """A finished round as trackers see it."""

    number: int
    at: float
    """When it was finished, in seconds of the epoch."""
    values: dict[str, float]
    """What it came to; a control's values are named after it, as `random-ticket/score`."""


class Tracker(Protocol):
    """One of the programs."""

    name: str
    look: str
    """What to type, or where to go, to see it."""

    def tell(self, lineage: Lineage, steps: Sequence[Step], *, complete: bool) -> None:
        """Show these steps of a lineage in this order, each once, whatever it had before.

        Args:
            lineage: whose run it is.
            steps: finished rounds.
            complete: whether the lineage is done with them.
        """
        ...

    def close(self) -> None:
        """Nothing more comes for now."""
        ...


def step(round: Round, record: Record) -> Step:
    """What a tracker is told of a round."""
    found = {name: record.result[name] for name in SCALARS} | {"seconds": record.seconds}
    series = ""
    if round.control != "ticket":
        # In letters that every tracker takes.
        own = "-own" if round.lineage_mode == "own" else ""
        series = f"{round.control}{own}{f'-{round.draw}' if round.draw else ''}/"
    values = {f"{series}{name}": float(v) for name, v in found.items() if v is not None}
    return Step(round.index, record.finished_at.timestamp(), values)


@dataclass
class Feed:
    """One tracker, and what it was told by this process."""

    tracker: Tracker
    store: Store
    told: dict[str, set[str]] = field(default_factory=dict)
    """Keys of rounds by lineage."""
    error: str | None = None
    """Why it is told no more, until the end of the run asks once again."""

    def catch_up(self, lineage: Lineage) -> None:
        """Tell it what the store has of a lineage and it does not."""
        if self.error is not None:
            return
        told = self.told.setdefault(lineage.id, set())
        records = self.store.records(r.key for r in lineage.rounds if r.key not in told)
        steps = [step(r, records[r.key]) for r in lineage.rounds if r.key in records]
        if not steps:
            return
        complete = all(r.key in told or r.key in records for r in lineage.rounds)
        with self._forgiving():
            self.tracker.tell(lineage, steps, complete=complete)
            told.update(records)

    def finish(self, lineages: Iterable[Lineage]) -> None:
        """Catch up with everything, once more also where it failed before."""
        self.error = None
        for lineage in lineages:
            self.catch_up(lineage)
        with self._forgiving():
            self.tracker.close()

    @contextmanager
    def _forgiving(self) -> Generator[None]:
        """A failure of whatever kind is kept, the first one: the sweep is worth more."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.error = self.error or without_credentials(first)

    @property
    def count(self) -> int:
        """Rounds it was told of, or has had before, as far as this process looked."""
        return sum(map(len, self.told.values()))


class Tracking:
    """A watcher that passes everything on to another, and to trackers what was committed."""

    def __init__(self, watcher: Watcher, trackers: Sequence[Tracker], store: Store):
        self.watcher = watcher
        self.feeds = [Feed(tracker, store) for tracker in trackers]
        self.sharing: dict[str, list[Lineage]] = {}
        """The lineages that have a round, by its key."""
        self.news: SimpleQueue[Lineage | None] = SimpleQueue()
        self.teller = threading.Thread(target=self._tell, daemon=True)
        if trackers:
            self.teller.start()

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        for lineage in plan.lineages:
            for round in lineage.rounds:
                self.sharing.setdefault(round.key, []).append(lineage)
            if lineage.rounds[0].key in plan.done:
                self.news.put(lineage)
        self.watcher.opened(plan, seats, place)

    def started(self, lineage: Lineage) -> None:
        self.watcher.started(lineage)

    def trained(self, lineage: Lineage, key: str) -> None:
        for each in self.sharing[key]:
            self.news.put(each)
        self.watcher.trained(lineage, key)

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        self.news.put(lineage)  # others may have trained some of its rounds
        self.watcher.ended(lineage, event, error)

    def stopping(self) -> None:
        self.watcher.stopping()

    def tick(self) -> None:
        self.watcher.tick()

    def finish(self, plan: Plan) -> list[Feed]:
        """Tell what is left to tell, and how it went."""
        if self.feeds:
            self.news.put(None)
            self.teller.join()
        for feed in self.feeds:
            feed.finish(plan.lineages)
        return self.feeds

    def _tell(self) -> None:
        while (lineage := self.news.get()) is not None:
            for feed in self.feeds:
                feed.catch_up(lineage)


TRACKERS = ("tensorboard", "mlflow", "wandb")


def named(wanted: Sequence[str]) -> dict[str, str]:
    """What `--track` says: where each tracker writes to, by its name; empty where it says not."""
    found: dict[str, str] = {}
    for word in wanted:
        name, _, where = word.partition(":")
        if name not in TRACKERS:
            raise UsageError(f"--track {name}: no such tracker. {did_you_mean(name, TRACKERS)}")
        if name in found:
            raise UsageError(f"--track {name} is given twice; take one out")
        found[name] = where
    return found


def open_trackers(wanted: Sequence[str], sweep: str, store: Store) -> list[Tracker]:
    """The trackers that `--track` names, proven to answer before anything is trained."""
    return [open_tracker(name, where, sweep, store) for name, where in named(wanted).items()]


def open_tracker(name: str, where: str, sweep: str, store: Store) -> Tracker:
    if name == "tensorboard":
        from raylottery.driver.track_tensorboard import TensorBoard

        return TensorBoard.open(where, sweep, store)
    if name == "mlflow":
        from raylottery.driver.track_mlflow import MLflow

        return MLflow(where or None, sweep, store.uri)
    from raylottery.driver.track_wandb import WandB

    return WandB(where or sweep)
