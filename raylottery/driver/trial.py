"""One lineage, trained in a thread of whichever process was given it.

The same function runs in a trial of Ray Tune and, with `--inline`, in the driver's own process,
by way of `cohort`. What it yields are signals for the driver; what it produced is in the store,
where the tables are made from it.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from raylottery import __version__
from raylottery.driver.memory import BOUNDED, OutOfMemory, told_of_memory
from raylottery.errors import RaylotteryError, TrainingError, UsageError
from raylottery.spec import Lineage, Round
from raylottery.store import Store, layout
from raylottery.store.files import text_at


if TYPE_CHECKING:
    from raylottery.lineage import RoundFailed


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker needs to know to train one lineage."""

    sweep: str
    store: str
    lineage: Lineage
    extents: Mapping[str, Sequence[int]]
    run: str
    """Names the driver's run: its stop file ends this lineage at the next round's end."""
    alone: bool = True
    """Whether no other lineage is trained in this process meanwhile."""


def train(task: Task) -> Iterator[dict]:
    """Train the lineage's unfinished rounds: a signal for each, then one that says how it ended.

    A failure is noted in the store. One that trying again cannot mend is told by the last signal;
    any other is raised. A round that is named there failed for all lineages that share it.
    """
    from raylottery.lineage import Busy, RoundFailed, grow
    from raylottery.trainers import make_trainer

    store = Store.open(task.store)
    if problem := misplaced(task, store):
        yield {"event": "failed", "error": problem}
        return
    stop_file = layout.stop(task.sweep, task.run)
    if store.files.exists(stop_file):
        yield {"event": "stopped"}
        return
    journal = Journal(store, task)
    lineage = task.lineage
    resources = lineage.arm.study.resources
    trainer = None

    def ahead() -> Round:
        done = store.done(round.key for round in lineage.rounds)
        return next(round for round in lineage.rounds if round.key not in done)

    def at(error: OutOfMemory) -> Round:
        inner = error.__cause__
        return inner.round if isinstance(inner, RoundFailed) else ahead()

    try:
        if resources.memory is not None and not BOUNDED:
            journal.add(f"nothing bounds the memory of a trial on {platform.system()}")
        try:
            with told_of_memory(resources.memory):
                trainer = make_trainer(lineage.arm.study, gpu=resources.gpus > 0)
        except Exception as error:
            raise RoundFailed(ahead(), error) from error
        blind = resources.gpus > 0 and trainer.device == "cpu"
        why = ", for torch sees no GPU here" if blind else ""
        journal.add(f"{lineage.arm.label}, seed {lineage.seed}, on {trainer.device}{why}")
        rounds = grow(lineage, trainer, store, sweep=task.sweep, extents=task.extents)
        while True:
            if store.files.exists(stop_file):
                yield {"event": "stopped"}
                return
            begun = time.time()
            with told_of_memory(resources.memory):
                trained = next(rounds, None)
            if trained is None:
                break
            round, record = trained
            result = record.result
            journal.add(
                f"round {round.index} {round.control}: density {result['density']:.4f}, "
                f"{result['metric']} {result['score']:.4f}, {record.seconds:.2f} s"
            )
            # A round that went on from where it was put aside took some of its time before.
            here = min(record.seconds, time.time() - begun)
            yield {"event": "round", "key": round.key, "seconds": here}
        yield {"event": "done"}
    except Busy as busy:
        journal.add(str(busy))
        yield {"event": "busy"}
    except (RoundFailed, OutOfMemory) as error:
        failure = error if isinstance(error, RoundFailed) else RoundFailed(at(error), error)
        cause = failure.cause
        note_failure(store, task, failure, journal)
        if isinstance(cause, OutOfMemory):
            if not task.alone:  # it may have been another that took too much
                raise
            # No round is named: another lineage may ask for more.
            yield {"event": "failed", "error": str(failure), "key": None}
        elif isinstance(cause, TrainingError | UsageError):
            yield {"event": "failed", "error": str(failure), "key": failure.round.key}
        else:
            raise
    finally:
        journal.close()
        if trainer is not None:
            trainer.close()


def misplaced(task: Task, store: Store) -> str | None:
    """Why this process cannot do the driver's work: another store, or another raylottery."""
    here = platform.node()
    if not store.files.exists(layout.sweep_file(task.sweep)):
        return (
            f"the worker on {here} does not see the driver's store at {store.uri}: give --store a "
            f"folder that all machines share, or a URI such as s3://bucket/folder"
        )
    if task.lineage.rounds[0].key not in task.extents:
        return (
            f"the worker on {here} has raylottery {__version__}, which gives rounds other keys "
            f"than the driver's: install one version everywhere"
        )
    return None


def note_failure(store: Store, task: Task, failure: RoundFailed, journal: Journal) -> None:
    """Keep what went wrong beside the round it went wrong in, and in the lineage's log."""
    cause = failure.cause
    journal.add("".join(traceback.format_exception(cause)).rstrip())
    store.fail(
        failure.round.key,
        {
            "sweep": task.sweep,
            "lineage": task.lineage.id,
            "control": failure.round.control,
            "round": failure.round.index,
            "error": type(cause).__name__,
            "first_line": (str(cause).splitlines() or [""])[0],
            "log": layout.log(task.sweep, task.lineage.id),
            "at": datetime.now(UTC).isoformat(),
        },
    )


class Journal(logging.Handler):
    """The lineage's log, written whole into the store at each entry and kept there.

    It also takes what the library's own loggers say in the thread that opened it, and in those
    that belong to no lineage, such as the one that renews all leases of a process.
    """

    trained_in: ClassVar[set[int]] = set()
    """The threads that have a journal open."""

    def __init__(self, store: Store, task: Task):
        super().__init__(logging.INFO)
        self.files = store.files
        self.path = layout.log(task.sweep, task.lineage.id)
        self.text = text_at(self.path, self.files)
        self.thread = threading.get_ident()
        self.trained_in.add(self.thread)
        # Before the handler's lock is asked for: no lineage waits until another has written.
        self.addFilter(lambda record: record.thread not in self.trained_in - {self.thread})
        logger = logging.getLogger("raylottery")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def add(self, line: str) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self.acquire()
        try:
            self.text += f"{at} {line}\n"
            self.files.write(self.path, self.text.encode())
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        # Whoever has something to say may say it because the store does not answer.
        with suppress(OSError, RaylotteryError):  # the next entry writes this one too
            self.add(record.getMessage())

    def close(self) -> None:
        logging.getLogger("raylottery").removeHandler(self)
        self.trained_in.discard(self.thread)
        super().close()
