"""Runs a plan as Ray Tune trials: Ray gives placement, concurrency and retries; the store is the
truth.

Tune asks the queue for the next lineage whenever it has room for one, so what is started always
follows from what is finished. Nothing is ever restored from Tune's own files, which go into a
temporary folder.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import request
from raylottery.driver.trial import Task, train
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import Lineage


ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this very environment
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt is the driver's to answer
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
}


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """A Ray to run on: the cluster at `address`, this process's own, or a new local one."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    choose_auth(address)
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(include_dashboard=False, object_store_memory=100 * 2**20, **quiet)
    else:
        reach(address)
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise NotFoundError(
                f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}. "
                f"Is it up (`ray status --address {address}`), with the same RAY_AUTH_MODE?"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Fail in seconds where nobody listens; Ray itself would try for a minute."""
    if address == "auto":
        return
    if "://" in address:
        raise UsageError(
            f"--address {address}: `run` joins a cluster from one of its own machines; give "
            f"HOST:PORT, such as 10.0.0.5:6379, or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(
            f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise NotFoundError(
            f"no Ray cluster answers at {address}: {error}. Start one with `ray start --head`, "
            f"or leave --address out to run on a local Ray"
        ) from error


def choose_auth(address: str | None) -> None:
    """Say explicitly whether tokens are used: Ray's own default differs between its commands."""
    token = os.path.exists(os.path.expanduser("~/.ray/auth_token")) or any(
        name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    )
    os.environ.setdefault("RAY_AUTH_MODE", "token" if address and token else "disabled")


def nodes() -> list[dict[str, float]]:
    """What each node of the connected cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def run_tune(
    queue: WorkQueue,
    task_of: Callable[[Lineage], Task],
    retries: int,
    max_concurrent: int | None,
    on_start: Callable[[Lineage], None],
    on_signal: Callable[[Lineage, dict], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out, each lineage as one trial, until it is drained."""
    from ray import tune
    from ray.tune.search import Searcher

    class Asker(Searcher):
        """Tune's view of the queue."""

        def __init__(self):
            super().__init__()
            self.lineages: dict[str, Lineage] = {}

        def suggest(self, trial_id: str):
            lineage = queue.next()
            if lineage is None:
                return Searcher.FINISHED if queue.drained else None
            self.lineages[trial_id] = lineage
            config = task_of(lineage).to_json()
            return {**config, "request": request(lineage.arm.study.resources)}

        def on_trial_complete(
            self, trial_id: str, result: dict | None = None, error: bool = False
        ):
            pass  # the callback below hears of it with the trial at hand

        def save(self, checkpoint_path: str) -> None:
            pass  # nothing is restored from Tune's files

        def restore(self, checkpoint_path: str) -> None:
            pass

    asker = Asker()

    class Listener(tune.Callback):
        """Passes on what trials report."""

        def on_trial_start(self, iteration, trials, trial, **info):
            on_start(asker.lineages[trial.trial_id])

        def on_trial_result(self, iteration, trials, trial, result, **info):
            on_signal(asker.lineages[trial.trial_id], result)

        def on_trial_error(self, iteration, trials, trial, **info):
            lines = (trial.get_error() or "its worker was lost").strip().splitlines()
            on_signal(asker.lineages[trial.trial_id], {"event": "failed", "error": lines[-1]})

        def on_step_end(self, iteration, trials, **info):
            on_tick()

    for name in ("ray.tune", "ray.train", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is told by our own lines
    with tempfile.TemporaryDirectory(prefix="raylottery-") as scratch:
        tune.Tuner(
            tune.with_resources(
                lineage_trial, lambda config: tune.PlacementGroupFactory([config["request"]])
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
                callbacks=[Listener()],
                verbose=0,
            ),
        ).fit()


def lineage_trial(config: dict) -> None:
    """The function every trial runs."""
    from ray import tune

    for signal in train(Task.from_json(config)):
        tune.report(signal)
