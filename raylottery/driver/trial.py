"""One trial: a whole lineage, trained by whichever process was given it.

The same function runs inside a Ray Tune trial and, with `--inline`, in the driver's own process.
What it yields are signals for the driver; what it produced is in the store, where the tables are
made from it.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from raylottery import __version__
from raylottery.driver.memory import BOUNDED, OutOfMemory, bounded
from raylottery.errors import RaylotteryError, TrainingError, UsageError
from raylottery.spec import Arm, Lineage, Round, Sweep
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
    """Names the driver's run: its stop file ends this trial at the next round's end."""

    def to_json(self) -> dict:
        """Plain values, as Ray Tune wants its configurations."""
        arm = self.lineage.arm
        # Tune keeps this of each trial, and there may be as many seeds as trials.
        study = arm.study.model_copy(update={"seeds": (self.lineage.seed,)})
        return {
            "sweep": self.sweep,
            "store": self.store,
            "run": self.run,
            "seed": self.lineage.seed,
            "arm": {
                "id": arm.id,
                "label": arm.label,
                "study": study.model_dump_json(),
            },
            "lineage": self.lineage.id,
            "extents": {trunk: list(steps) for trunk, steps in self.extents.items()},
        }

    @classmethod
    def from_json(cls, config: Mapping) -> Task:
        arm = Arm(
            id=config["arm"]["id"],
            label=config["arm"]["label"],
            values={},
            study=Sweep.model_validate_json(config["arm"]["study"]),
        )
        return cls(
            sweep=config["sweep"],
            store=config["store"],
            run=config["run"],
            lineage=Lineage(arm=arm, seed=config["seed"], id=config["lineage"]),
            extents=config["extents"],
        )


def train(task: Task) -> Iterator[dict]:
    """Train the lineage's unfinished rounds: a signal for each, then one that says how it ended.

    A failure is noted in the store. One that trying again cannot mend is told by the last signal;
    any other is raised. A round that is named there failed for all lineages that share it.
    """
    began = time.time()
    from raylottery.lineage import Busy, RoundFailed, grow
    from raylottery.trainers import make_trainer, trainer_class

    trainer_class(task.lineage.arm.study.trainer.kind)

    def signal(event: str, **more: object) -> dict:
        return {
            "event": event,
            "lineage": task.lineage.id,
            "worker": f"{platform.node()}:{os.getpid()}",
            "began": began,
            "import_s": imported - began,
            "now": time.time(),
            **more,
        }

    imported = time.time()
    store = Store.open(task.store)
    if problem := misplaced(task, store):
        yield signal("failed", error=problem)
        return
    journal = Journal(store, task)
    stop_file = layout.stop(task.sweep, task.run)
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
        if resources.memory is not None:
            gc.collect()  # what the trial before it left in this process is none of this one's
            if not BOUNDED:
                journal.add(f"nothing bounds the memory of a trial on {platform.system()}")
        try:
            with bounded(resources.memory):
                trainer = make_trainer(lineage.arm.study, gpu=resources.gpus > 0)
        except Exception as error:
            raise RoundFailed(ahead(), error) from error
        blind = resources.gpus > 0 and trainer.device == "cpu"
        why = ", for torch sees no GPU here" if blind else ""
        journal.add(f"{lineage.arm.label}, seed {lineage.seed}, on {trainer.device}{why}")
        rounds = grow([lineage], trainer, store, sweep=task.sweep, extents=task.extents)
        while True:
            if store.files.exists(stop_file):
                yield signal("stopped")
                return
            begun = time.time()
            with bounded(resources.memory):
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
            yield signal("round", key=round.key, seconds=here)
        yield signal("done")
    except Busy as busy:
        journal.add(str(busy))
        yield signal("busy")
    except (RoundFailed, OutOfMemory) as error:
        failure = error if isinstance(error, RoundFailed) else RoundFailed(at(error), error)
        cause = failure.cause
        note_failure(store, task, failure, journal)
        if isinstance(cause, OutOfMemory):
            yield signal("failed", error=str(failure), key=None)  # another may have asked for more
        elif isinstance(cause, TrainingError | UsageError):
            yield signal("failed", error=str(failure), key=failure.round.key)
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

    It also takes what the library's own loggers say while the lineage is trained.
    """

    def __init__(self, store: Store, task: Task):
        super().__init__(logging.INFO)
        self.files = store.files
        self.path = layout.log(task.sweep, task.lineage.id)
        self.text = text_at(self.path, self.files)
        logger = logging.getLogger("raylottery")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def add(self, line: str) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        self.text += f"{at} {line}\n"
        self.files.write(self.path, self.text.encode())

    def emit(self, record: logging.LogRecord) -> None:
        # Whoever has something to say may say it because the store does not answer.
        with suppress(OSError, RaylotteryError):  # the next entry writes this one too
            self.add(record.getMessage())

    def close(self) -> None:
        logging.getLogger("raylottery").removeHandler(self)
        super().close()
