"""Runs a plan as Ray Tune trials: Ray gives placement and concurrency; the store is the truth.

Tune asks the queue for the next lineage whenever it has room for one, so what is started always
follows from what is finished. It may have some waiting for each kind of place, so that a lineage
that waits for a GPU keeps no other from a CPU. A trial that breaks is over for Tune: the queue
hands its lineage out again, as another trial. Nothing is ever restored from Tune's own files,
which go into a temporary folder; what Tune would pickle into them is left out.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import bundles
from raylottery.driver.scratch import scratch_folder
from raylottery.driver.trial import Task, train
from raylottery.spec import Duration, Lineage, Sweep


AHEAD = 16
"""Trials of one kind that may wait for a place: so many workers start side by side, and so many
places an autoscaling cluster is seen to lack at a time."""

QUIET = ("ray.tune", "ray.train", "ray._common.deprecation")


def run_tune(
    queue: WorkQueue,
    task_of: Callable[[Lineage], Task],
    timeout: Duration | None,
    max_concurrent: int | None,
    on_start: Callable[[Lineage], None],
    on_signal: Callable[[Lineage, Mapping], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out, each lineage as one trial, until it is drained."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is told by our own lines
    asker = Asker(queue, task_of)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(AHEAD * len({*asker.kinds.values()}))
    listener = Listener(asker, Patience(timeout), on_start, on_signal, on_tick)
    with scratch_folder("raylottery-") as scratch:
        tune.Tuner(
            tune.with_resources(
                lineage_trial, lambda config: tune.PlacementGroupFactory(config["bundles"])
            ),
            tune_config=tune.TuneConfig(
                search_alg=asker,
                num_samples=-1,
                max_concurrent_trials=max_concurrent,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["lineage"],
                trial_dirname_creator=lambda trial: f"{trial.config['lineage']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[listener],
                verbose=0,
            ),
        ).fit()


def lineage_trial(config: dict) -> None:
    """The function every trial runs."""
    broken = None
    try:
        for signal in train(Task.from_json(config)):
            tune.report(signal)
    except Exception as error:  # noqa: BLE001 (raised below, without what cannot be sent along)
        first = (str(error).splitlines() or [""])[0]
        broken = Broken(first or type(error).__name__)
    if broken is not None:
        raise broken


class Broken(Exception):
    """What broke a trial, in a line. Unlike errors of all kinds, it can be sent to the driver; the
    lineage's log has the rest."""


def what_broke(trial: Any) -> str:
    """In a line, what Tune noted of a trial that failed."""
    last = Path(trial.error_file).read_text().strip().splitlines()[-1]
    _, ours, told = last.partition(f"{Broken.__name__}: ")
    lost = last.removeprefix("The actor is dead because ").partition(" Some common causes")[0]
    return told if ours else lost


class Asker(Searcher):
    """Tune's view of the queue."""

    def __init__(self, queue: WorkQueue, task_of: Callable[[Lineage], Task]):
        super().__init__()
        self.queue = queue
        self.task_of = task_of
        self.lineages: dict[str, Lineage] = {}
        """Trials by Tune's ids."""
        self.kinds = {line.arm.id: kind(line.arm.study) for line in queue.lineages()}
        """By arm."""
        self.waiting: dict[str, str] = {}
        """Kinds of the trials that have no place yet."""

    def suggest(self, trial_id: str):
        waiting = Counter(self.waiting.values())
        lineage = self.queue.next(lambda line: waiting[self.kinds[line.arm.id]] < AHEAD)
        if lineage is None:
            return Searcher.FINISHED if self.queue.drained else None
        self.lineages[trial_id] = lineage
        self.waiting[trial_id] = self.kinds[lineage.arm.id]
        config = self.task_of(lineage).to_json()
        return {**config, "bundles": bundles(lineage.arm.study)}

    def placed(self, trial_id: str) -> Lineage:
        """A trial waits no more: the lineage that it trains."""
        self.waiting.pop(trial_id, None)
        return self.lineages[trial_id]

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False):
        """The listener hears of it with the trial at hand."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files."""

    def __getstate__(self) -> dict:
        return {}


def kind(study: Sweep) -> str:
    """What a trial asks for, as a word: equal for those that fit the same places."""
    return json.dumps(bundles(study), sort_keys=True)


class Patience:
    """Ends trials that have not been heard of for too long."""

    def __init__(self, timeout: Duration | None, clock: Callable[[], float] = time.monotonic):
        self.timeout = timeout
        self.clock = clock
        self.heard: dict[str, tuple[Any, float]] = {}
        """Running trials by Tune's ids, and when each was heard of last."""
        self.ended: set[str] = set()
        """Those that had to be ended."""

    def hears(self, trial: Any) -> None:
        self.heard[trial.trial_id] = (trial, self.clock())

    def forgets(self, trial: Any) -> None:
        self.heard.pop(trial.trial_id, None)

    def said(self) -> str:
        return (
            f"no round within {self.timeout}, so its trial was ended; where rounds take that "
            f"long, raise `timeout` in the sweep file, or --set timeout=null"
        )

    def look(self) -> None:
        """End, with all that is in it, the worker of each trial that has been silent too long."""
        if self.timeout is None:
            return
        now = self.clock()
        late = [trial for trial, at in self.heard.values() if now - at >= self.timeout.amount]
        for trial in late:
            self.hears(trial)  # Tune will say when it is over; if it never does, again
            self.ended.add(trial.trial_id)
            ray.kill(trial.temporary_state.ray_actor)


class Listener(tune.Callback):
    """Passes on what trials report."""

    def __init__(
        self,
        asker: Asker,
        patience: Patience,
        on_start: Callable[[Lineage], None],
        on_signal: Callable[[Lineage, Mapping], None],
        on_tick: Callable[[], None],
    ):
        self.asker = asker
        self.patience = patience
        self.on_start = on_start
        self.on_signal = on_signal
        self.on_tick = on_tick

    def on_trial_start(self, iteration, trials, trial, **info):
        self.patience.hears(trial)
        self.on_start(self.asker.placed(trial.trial_id))

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.patience.hears(trial)
        self.on_signal(self.asker.placed(trial.trial_id), result)

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.patience.forgets(trial)

    def on_trial_error(self, iteration, trials, trial, **info):
        self.patience.forgets(trial)
        silent = trial.trial_id in self.patience.ended
        error = self.patience.said() if silent else what_broke(trial)
        signal = {"event": "broken", "error": error, "silent": silent}
        self.on_signal(self.asker.placed(trial.trial_id), signal)

    def on_step_end(self, iteration, trials, **info):
        self.patience.look()
        self.on_tick()

    def __getstate__(self) -> dict:
        return {}
