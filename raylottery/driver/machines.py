"""What a cluster's machines are and may become, and whether each can do the driver's work."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import yaml

from raylottery import __version__
from raylottery.driver.resources import Growth
from raylottery.errors import RaylotteryError, UsageError
from raylottery.store import Store, layout


PATIENCE_S = 60.0
AUTOSCALER = "--autoscaling-config="
"""How Ray's monitor on the head is told of the machines that it may start."""
KUBERAY = "RAY_USAGE_STATS_KUBERAY_IN_USE"
"""What the operator sets in all its pods."""


def machines() -> list[dict[str, float]]:
    """What each machine of the connected cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def growth() -> Growth:
    """What machines may be added to the connected cluster: its head knows."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    head = next(
        n for n in ray.nodes() if n["Alive"] and "node:__internal_head__" in n["Resources"]
    )
    if head["NodeID"] == ray.get_runtime_context().get_node_id():
        return growth_of_this_head()
    there = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(growth_of_this_head)
    try:
        return ray.get(task.options(scheduling_strategy=there).remote(), timeout=PATIENCE_S)
    except RayError as error:
        first = str(error).strip().splitlines()[-1]
        raise UsageError(
            f"the head on {head['NodeManagerHostname']} cannot run raylottery {__version__}: "
            f"{first}"
        ) from error


def growth_of_this_head() -> Growth:
    import psutil  # ty: ignore  (Ray brings it along)

    if KUBERAY in os.environ:
        return Growth(others=True)  # only Kubernetes knows its groups
    words = [
        word for each in psutil.process_iter(["cmdline"]) for word in each.info["cmdline"] or ()
    ]
    config = next((word for word in words if word.startswith(AUTOSCALER)), None)
    return Growth() if config is None else described(Path(config.removeprefix(AUTOSCALER)))


def described(file: Path) -> Growth:
    """What an autoscaler's configuration says of the machines that it may start."""
    try:
        config = yaml.safe_load(file.expanduser().read_text())
    except OSError:
        return Growth(others=True)  # another user's
    most, head = config.get("max_workers", 0), config.get("head_node_type")
    types = {**config.get("available_node_types", {})}
    types.pop(head, None)  # there is one, and it is there
    startable = [each for each in types.values() if each.get("max_workers", most)]
    return Growth(
        kinds=tuple(each["resources"] for each in startable if each.get("resources")),
        others=any(not each.get("resources") for each in startable),
    )


def refuse_blind_machines(store: Store, sweep: str) -> None:
    """Refuse a store that a machine on which trials may run cannot see or write.

    Machines that an autoscaler adds later are not there to be asked: each trial looks for itself.
    """
    import ray
    from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError
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
        except (NodeDiedError, TaskUnschedulableError):
            continue  # it died a while ago, which Ray takes some seconds to see
        except RayError as error:
            first = str(error).strip().splitlines()[-1]
            found = f"cannot run raylottery {__version__}: {first}"
        if found:
            raise UsageError(f"the worker on {host} {found}")


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
