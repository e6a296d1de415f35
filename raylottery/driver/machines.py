"""Whether every machine of a cluster can do the driver's work: seen before anything trains."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from raylottery import __version__
from raylottery.errors import RaylotteryError, UsageError
from raylottery.store import Store, layout


PATIENCE_S = 60.0
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""What `ray up` puts on the head, for its autoscaler."""
KUBERAY = "RAY_USAGE_STATS_KUBERAY_IN_USE"
"""What the operator sets in all its pods."""


def refuse_blind_machines(store: Store, sweep: str) -> None:
    """Refuse a store that a machine on which trials may run cannot see or write.

    Machines that an autoscaler adds later are not there to be asked: each trial looks for itself.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(problem)
    asked: dict[Any, str] = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=there).remote(store.uri, sweep, __version__)
            asked[answer] = node["NodeManagerHostname"]
    if asked:
        ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE_S)
    for answer, host in asked.items():
        try:
            found = ray.get(answer, timeout=0.1)
        except RayError as error:
            first = str(error).strip().splitlines()[-1]
            found = f"cannot run raylottery {__version__}: {first}"
        if found:
            raise UsageError(f"the worker on {host} {found}")


def may_grow() -> bool:
    """Whether machines may be added to the cluster, so that what it lacks now may come.

    Ray tells nobody who asks; but the head of `ray up` and the pods of KubeRay can be known.
    """
    return BOOTSTRAP.expanduser().exists() or KUBERAY in os.environ


def problem(uri: str, sweep: str, version: str) -> str | None:
    """Why this machine cannot work for a driver with that store and version, if it cannot."""
    if version != __version__:
        return (
            f"has raylottery {__version__} on Python {platform.python_version()}, the driver "
            f"{version}: install one version everywhere"
        )
    try:
        store = Store.open(uri)
    except RaylotteryError as error:
        return f"cannot write the store: {error}"
    if not store.files.exists(layout.sweep_file(sweep)):
        return (
            f"does not see the driver's store at {store.uri}: give --store a folder that all "
            f"machines share, or a URI such as s3://bucket/folder"
        )
    return None
