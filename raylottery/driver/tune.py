"""Runs a plan as Ray Tune trials: Ray gives placement and concurrency; the store is the truth.

Tune asks the queue for the next lineages whenever it has room for a trial, so what is started
always follows from what is finished. It may have some waiting for each kind of place, so that a
lineage that waits for a GPU keeps no other from a CPU. A trial that breaks is over for Tune: the
queue hands its lineages out again, in other trials. Nothing is ever restored from Tune's own
files, which go into a temporary folder; what Tune would pickle into them is left out.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from raylottery.driver.cohort import Cohort, Members, Shares, first_line, train_cohort
from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import AHEAD, bundles, kind
from raylottery.driver.scratch import scratch_folder
from raylottery.spec import Duration, Lineage


QUIET = ("ray.tune", "ray.train", "ray._common.deprecation")


def run_tune(
    queue: WorkQueue,
    shares: Shares,
    cohort_of: Callable[[Sequence[Lineage]], Cohort],
    timeout: Duration | None,
    max_concurrent: int | None,
    on_signal: Callable[[Lineage, Mapping], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out, each share of it as one trial, until it is drained."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is told by our own lines
    asker = Asker(queue, shares, cohort_of)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(AHEAD * len({*asker.kinds.values()}))
    listener = Listener(asker, Patience(timeout), on_signal, on_tick)
    with scratch_folder("raylottery-") as scratch:
        tune.Tuner(
            tune.with_resources(cohort_trial, place),
            tune_config=tune.TuneConfig(
                search_alg=asker,
                num_samples=-1,
                max_concurrent_trials=max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[listener],
                verbose=0,
            ),
        ).fit()


def cohort_trial(config: dict) -> None:
    """The function every trial runs."""
    broken = None
    try:
        with closing(train_cohort(Cohort.from_json(config))) as said:
            for news in said:
                if news:
                    tune.report({"said": news})
                broken = next((s["error"] for s in news if s["event"] == "broken"), broken)
    except Exception as error:  # noqa: BLE001 (raised below, without what cannot be sent along)
        broken = first_line(error)
    if broken is not None:  # nothing more is trained in this process: it may be what is broken
        raise Broken(broken)


def place(config: Mapping) -> tune.PlacementGroupFactory:
    """What a trial asks for."""
    return place_of(json.dumps(config["bundles"]))


@cache
def place_of(said: str) -> tune.PlacementGroupFactory:
    """One object for all trials that ask for the same: Tune holds it for each of them."""
    return tune.PlacementGroupFactory(json.loads(said))


class Broken(Exception):
    """What broke a trial, in a line. Unlike errors of all kinds, it can be sent to the driver; the
    log of the lineage has the rest."""


def what_broke(trial: Any) -> str:
    """In a line, what Tune noted of a trial that failed."""
    last = Path(trial.error_file).read_text().strip().splitlines()[-1]
    _, ours, told = last.partition(f"{Broken.__name__}: ")
    lost = last.removeprefix("The actor is dead because ").partition(" Some common causes")[0]
    return told if ours else lost


class Asker(Searcher):
    """Tune's view of the queue."""

    def __init__(
        self,
        queue: WorkQueue,
        shares: Shares,
        cohort_of: Callable[[Sequence[Lineage]], Cohort],
    ):
        super().__init__()
        self.queue = queue
        self.shares = shares
        self.cohort_of = cohort_of
        self.members: dict[str, Members] = {}
        """Of each trial, by Tune's ids."""
        self.kinds = {line.arm.id: kind(line.arm.study) for line in queue.lineages()}
        """By arm."""
        self.waiting: dict[str, str] = {}
        """Kinds of the trials that have no place yet."""

    def suggest(self, trial_id: str):
        waiting = Counter(self.waiting.values())
        lineages = self.queue.take(
            self.shares, lambda line: waiting[self.kinds[line.arm.id]] < AHEAD
        )
        if not lineages:
            return Searcher.FINISHED if self.queue.drained else None
        self.members[trial_id] = Members(lineages)
        self.waiting[trial_id] = self.kinds[lineages[0].arm.id]
        cohort = self.cohort_of(lineages)
        return {**cohort.to_json(), "bundles": bundles(cohort.study)}

    def placed(self, trial_id: str) -> Members:
        """A trial waits no more: the lineages that it trains."""
        self.waiting.pop(trial_id, None)
        return self.members[trial_id]

    def forgets(self, trial: Any) -> None:
        """Let go of a trial that ended, and of what Tune would hold of it to the end of the run:
        nobody asks for its config and its results any more."""
        self.members.pop(trial.trial_id, None)
        results = trial.run_metadata
        results.last_result = {"said": []}  # of a trial without any, Tune has something to print
        for held in (trial.config, trial.evaluated_params, results.metric_analysis,
                     results.metric_n_steps):  # fmt: skip
            held.clear()

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False):
        """The listener hears of it with the trial at hand."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files."""

    def __getstate__(self) -> dict:
        return {}


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
        on_signal: Callable[[Lineage, Mapping], None],
        on_tick: Callable[[], None],
    ):
        self.asker = asker
        self.patience = patience
        self.on_signal = on_signal
        self.on_tick = on_tick

    def on_trial_start(self, iteration, trials, trial, **info):
        self.patience.hears(trial)
        self.asker.placed(trial.trial_id)

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.patience.hears(trial)
        members = self.asker.placed(trial.trial_id)
        for signal in result["said"]:
            self.on_signal(members.says(signal), signal)

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.patience.forgets(trial)
        self.asker.forgets(trial)

    def on_trial_error(self, iteration, trials, trial, **info):
        self.patience.forgets(trial)
        silent = trial.trial_id in self.patience.ended
        error = self.patience.said() if silent else what_broke(trial)
        for lineage, signal in self.asker.placed(trial.trial_id).lost(error, silent=silent):
            self.on_signal(lineage, signal)
        self.asker.forgets(trial)

    def on_step_end(self, iteration, trials, **info):
        self.patience.look()
        self.on_tick()

    def __getstate__(self) -> dict:
        return {}
