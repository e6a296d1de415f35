"""Runs a plan as Ray Tune trials: Ray gives placement, concurrency and retries; the store is the
truth.

Tune asks the queue for the next lineage whenever it has room for one, so what is started always
follows from what is finished. It may have some waiting for each kind of place, so that a lineage
that waits for a GPU keeps no other from a CPU. Nothing is ever restored from Tune's own files,
which go into a temporary folder; what Tune would pickle into them is left out.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping

from ray import tune
from ray.tune.search import Searcher

from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import bundles
from raylottery.driver.trial import Task, train
from raylottery.spec import Lineage, Sweep


AHEAD = 16
"""Trials of one kind that may wait for a place: so many workers start side by side, and so many
places an autoscaling cluster is seen to lack at a time."""

QUIET = ("ray.tune", "ray.train", "ray._common.deprecation")


def run_tune(
    queue: WorkQueue,
    task_of: Callable[[Lineage], Task],
    retries: int,
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
    listener = Listener(asker, on_start, on_signal, on_tick)
    with tempfile.TemporaryDirectory(prefix="raylottery-") as scratch:
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
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[listener],
                verbose=0,
            ),
        ).fit()


def lineage_trial(config: dict) -> None:
    """The function every trial runs."""
    for signal in train(Task.from_json(config)):
        tune.report(signal)


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


class Listener(tune.Callback):
    """Passes on what trials report."""

    def __init__(
        self,
        asker: Asker,
        on_start: Callable[[Lineage], None],
        on_signal: Callable[[Lineage, Mapping], None],
        on_tick: Callable[[], None],
    ):
        self.asker = asker
        self.on_start = on_start
        self.on_signal = on_signal
        self.on_tick = on_tick

    def on_trial_start(self, iteration, trials, trial, **info):
        self.on_start(self.asker.placed(trial.trial_id))

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.on_signal(self.asker.placed(trial.trial_id), result)

    def on_trial_error(self, iteration, trials, trial, **info):
        lines = (trial.get_error() or "its worker was lost").strip().splitlines()
        self.on_signal(self.asker.placed(trial.trial_id), {"event": "failed", "error": lines[-1]})

    def on_step_end(self, iteration, trials, **info):
        self.on_tick()

    def __getstate__(self) -> dict:
        return {}
