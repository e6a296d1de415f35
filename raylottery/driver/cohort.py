"""What one trial trains: lineages side by side, each in a thread of its own.

Every thread takes the next lineage of the cohort when it is done with one, and trains it by
`trial.train` with a trainer, a log and leases of its own: so a lineage does not depend on its
neighbours, and what ends one ends no other. The trial's own thread trains nothing. It passes on
what the others say, which is the same on Ray and inline.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from queue import Empty, SimpleQueue
from threading import Thread

from raylottery.driver.memory import bounded
from raylottery.driver.resources import abreast, kind
from raylottery.driver.trial import Task, train
from raylottery.spec import Arm, Lineage, Sweep


TICK_S = 0.1
"""So often whoever listens is given a chance to look after something else."""
ENDS_S = 10.0
"""How long a thread that was told to end at once is waited for."""
MOST = 32
"""Lineages a thread that are handed out together at most: a trial costs little to start, and what
a trial has not begun is no other's to train."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What a worker needs to know to train some lineages, which all ask for the same."""

    sweep: str
    store: str
    run: str
    """Names the driver's run: its stop file ends this trial when the running rounds end."""
    lineages: Sequence[Lineage]
    extents: Mapping[str, Sequence[int]]

    @property
    def study(self) -> Sweep:
        return self.lineages[0].arm.study

    @property
    def threads(self) -> int:
        return min(abreast(self.study), len(self.lineages))

    def tasks(self) -> list[Task]:
        return [
            Task(
                sweep=self.sweep,
                store=self.store,
                run=self.run,
                lineage=lineage,
                extents=self.extents,
                alone=self.threads == 1,
            )
            for lineage in self.lineages
        ]

    def to_json(self) -> dict:
        """Plain values, as Ray Tune wants its configurations."""
        arms = {line.arm.id: line.arm for line in self.lineages}
        return {
            "sweep": self.sweep,
            "store": self.store,
            "run": self.run,
            # Tune keeps this of each trial, and there may be as many seeds as trials.
            "arms": {
                id: {
                    "label": arm.label,
                    "study": arm.study.model_copy(update={"seeds": (0,)}).model_dump_json(),
                }
                for id, arm in arms.items()
            },
            "lineages": [[line.id, line.arm.id, line.seed] for line in self.lineages],
            "extents": {trunk: list(steps) for trunk, steps in self.extents.items()},
        }

    @classmethod
    def from_json(cls, config: Mapping) -> Cohort:
        arms = {
            id: Arm(
                id=id,
                label=arm["label"],
                values={},
                study=Sweep.model_validate_json(arm["study"]),
            )
            for id, arm in config["arms"].items()
        }
        return cls(
            sweep=config["sweep"],
            store=config["store"],
            run=config["run"],
            lineages=[
                Lineage(arm=arms[arm], seed=seed, id=id) for id, arm, seed in config["lineages"]
            ],
            extents=config["extents"],
        )


def train_cohort(cohort: Cohort) -> Generator[list[dict]]:
    """Train the lineages; what they say, as it comes, and now and then nothing.

    Of each it says that it is begun, then what `train` does, and that it broke if that raises. Who
    closes this generator early ends all that is under way, with the round it is in.
    """
    began = time.time()
    from raylottery.trainers import trainer_class

    for lineage in cohort.lineages:
        trainer_class(lineage.arm.study)  # loaded here, once: before threads, and uncounted memory
    imported = time.time()
    if cohort.study.resources.memory is not None:
        gc.collect()  # what the trial before it left in this process is none of this one's
    tasks = deque(cohort.tasks())
    said: SimpleQueue[dict | None] = SimpleQueue()

    def work(thread: int) -> None:
        def say(task: Task, signal: dict) -> None:
            said.put(
                {
                    "lineage": task.lineage.id,
                    "worker": f"{platform.node()}:{os.getpid()}",
                    "thread": thread,
                    "began": began,
                    "import_s": imported - began,
                    "now": time.time(),
                    **signal,
                }
            )

        while True:
            try:
                task = tasks.popleft()
            except IndexError:
                break
            say(task, {"event": "begun"})
            try:
                for signal in train(task):
                    say(task, signal)
            except BaseException as error:  # noqa: BLE001 (noted by `train`; the queue tries again)
                say(task, {"event": "broken", "error": first_line(error)})
        said.put(None)

    threads = [
        Thread(target=work, args=(number,), name=f"lineage-{number}", daemon=True)
        for number in range(cohort.threads)
    ]
    working = len(threads)
    with bounded(cohort.study.resources.memory):
        try:
            for thread in threads:
                thread.start()
            while working:
                news = heard(said)
                working -= news.count(None)
                yield [signal for signal in news if signal is not None]
        finally:
            tasks.clear()
            if working:
                end(threads)


def heard(said: SimpleQueue[dict | None]) -> list[dict | None]:
    """All that was said since, which may be nothing."""
    news = []
    try:
        news.append(said.get(timeout=TICK_S))
        while True:
            news.append(said.get_nowait())
    except Empty:
        return news


def end(threads: Iterable[Thread]) -> None:
    """End threads, wherever in Python they are, as SystemExit does: what they lease is let go."""
    for thread in threads:
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            )
    until = time.monotonic() + ENDS_S
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, until - time.monotonic()))


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


class Members:
    """The lineages of a trial that have not ended, as far as was heard."""

    def __init__(self, lineages: Iterable[Lineage]):
        self.left = {lineage.id: lineage for lineage in lineages}
        self.begun: set[str] = set()

    def says(self, signal: Mapping) -> Lineage:
        """Whose signal it is."""
        id, event = signal["lineage"], signal["event"]
        lineage = self.left[id]
        if event == "begun":
            self.begun.add(id)
        elif event != "round":
            del self.left[id]
        return lineage

    def lost(self, error: str, *, silent: bool = False) -> Iterator[tuple[Lineage, dict]]:
        """What is to be said of those that are left where their trial is over.

        Those that were never begun did not break it; but where none was, any may have.
        """
        begun = self.begun & self.left.keys() or {*self.left}
        for id, lineage in self.left.items():
            event = "broken" if id in begun else "unbegun"
            yield lineage, {"event": event, "lineage": id, "error": error, "silent": silent}
        self.left = {}


class Shares:
    """How many lineages the next trial gets, for all places to be busy to the end.

    Under `cohort: auto` it is an even share of what is ready: many at first, and ever fewer, so
    that no lineage waits for a whole other trial while there is room.
    """

    def __init__(self, slots: Mapping[str, int]):
        self.slots = slots
        """By what is asked for, how many trials the cluster holds."""

    def __call__(self, lineage: Lineage, ready: int) -> int:
        study = lineage.arm.study
        if not study.trainer.side_by_side:
            return 1
        if study.cohort != "auto":
            return study.cohort
        threads = abreast(study)
        return max(threads, min(MOST * threads, ceil(ready / self.slots[kind(study)])))
