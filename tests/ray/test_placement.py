"""Trials that ask for different things, on a cluster of two kinds of machines."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver.cluster import ENVIRONMENT, connected
from raylottery.driver.conductor import Conductor
from raylottery.driver.machines import machines
from raylottery.driver.run import run
from raylottery.spec import parse_sweep
from raylottery.store import Store


SWEEP = """
name: places
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 1ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0, 1]
axes:
  zip:
    trainer.length: [20it, 10it]
    resources.custom: [{lab: 1}, {}]
    resources.accelerator: [null, T4]
"""

GROWS = """
cluster_name: grows
max_workers: 2
upscaling_speed: 1.0
idle_timeout_minutes: 5
provider: {type: fake_multinode}
auth: {}
docker: {}
head_node_type: head
available_node_types:
  head: {node_config: {}, resources: {CPU: 1, lab: 1}, max_workers: 0}
  large: {node_config: {}, resources: {CPU: 4, GPU: 2, lab: 1}, min_workers: 0, max_workers: 2}
file_mounts: {}
cluster_synced_files: []
file_mounts_sync_continuously: false
rsync_exclude: []
rsync_filter: []
initialization_commands: []
setup_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[str]:
    """A machine of each kind, with a CPU each: one that has a `lab`, and one with a T4.

    Its autoscaler may start others with two GPUs.
    """
    scratch = tmp_path_factory.mktemp("ray")
    (scratch / "grows.yaml").write_text(GROWS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    head = ("--head", f"--port={address.rpartition(':')[2]}", f"--temp-dir={scratch}",
            "--include-dashboard=false", "--disable-usage-stats",
            f"--autoscaling-config={scratch}/grows.yaml")  # fmt: skip
    with machine_with("lab", *head), machine_with("accelerator_type:T4", f"--address={address}"):
        os.environ.update({**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})
        with connected(address):
            until(lambda: len(machines()) == 2)
        yield address


@contextmanager
def machine_with(resource: str, *options: str) -> Generator[None]:
    """A node of a cluster, started as a user would; its own process ends all of it."""
    ray = Path(sys.executable).parent / "ray"
    node = subprocess.Popen(
        [ray, "start", "--block", "--num-cpus=1", "--num-gpus=0", *options,
         "--resources", json.dumps({resource: 1}), "--object-store-memory=100000000"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT, "RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1"},
    )  # fmt: skip
    try:
        for option in options:
            if option.startswith("--port="):
                until(lambda port=int(option[7:]): listening(port))
        yield
    finally:
        node.terminate()
        node.wait(60)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def machine(pid: int) -> str:
    """What is special about the machine of a worker: its parent says so, which is Ray's own."""
    status = Path(f"/proc/{pid}/status").read_text()
    parent = re.search(r"^PPid:\t(\d+)", status, re.MULTILINE)
    assert parent is not None
    command = Path(f"/proc/{parent[1]}/cmdline").read_text()
    return "lab" if "lab,1" in command else "T4" if "accelerator_type:T4,1" in command else "?"


class Freeing(Diary):
    """Frees the lab as soon as nobody needs the other machine any more."""

    def __init__(self, free: Callable[[], None]):
        super().__init__(say=lambda line: None)
        self.free = free
        self.ends: list[str] = []

    def ended(self, lineage, event, error) -> None:
        super().ended(lineage, event, error)
        self.ends.append(asked(lineage))
        if self.ends.count("T4") == 2:
            self.free()


def asked(lineage) -> str:
    return "lab" if lineage.arm.study.resources.custom else "T4"


@pytest.mark.timeout(150)
def test_each_trial_gets_the_machine_it_asks_for_and_waits_for_no_other_kind(
    cluster, tmp_path, monkeypatch
):
    """The lab is taken until all is done that needs none: who waits for it is in nobody's way."""
    on: dict[str, set[int]] = defaultdict(set)
    heard = Conductor.on_signal

    def hear(self, lineage, signal) -> None:
        pid = int(signal["worker"].rpartition(":")[2])
        on[asked(lineage)].add(pid)
        assert machine(pid) == asked(lineage)
        heard(self, lineage, signal)

    monkeypatch.setattr(Conductor, "on_signal", hear)
    with connected(cluster):
        from ray.util import placement_group, remove_placement_group

        taken = placement_group([{"CPU": 1, "lab": 1}])
        assert taken.wait(30)
        watcher = Freeing(lambda: remove_placement_group(taken))
        result = run(parse_sweep(SWEEP), Store.open(tmp_path), watcher, address=cluster)
    assert result.exit_code == 0
    assert not result.plan.todo
    assert watcher.ends == ["T4", "T4", "lab", "lab"]
    assert {kind: len(pids) for kind, pids in on.items()} == {"lab": 1, "T4": 1}, "reused"


def plan(tmp_path, cluster, capsys, *changes: str) -> tuple[int, str, str]:
    file = tmp_path / "places.yaml"
    file.write_text(SWEEP)
    sets = [word for change in changes for word in ("--set", change)]
    code = main(["plan", str(file), "--store", str(tmp_path / "s"), "--address", cluster, *sets])
    return code, *capsys.readouterr()


def test_plan_shows_how_many_of_each_arm_fit_at_a_time(cluster, tmp_path, capsys):
    code, out, _ = plan(tmp_path, cluster, capsys)
    assert code == 0
    assert re.search(r"length=20it +1 CPU, 1 lab +1\n", out)
    assert re.search(r"length=10it +1 CPU, T4 +1 *\n", out)
    assert not (tmp_path / "s").exists()


def test_plan_refuses_what_would_wait_for_ever(cluster, tmp_path, capsys):
    wanted = "axes.zip.resources.custom=[{lab: 2}, {}]"
    code, out, err = plan(tmp_path, cluster, capsys, wanted)
    assert code == 2
    assert re.search(r"length=20it +1 CPU, 2 lab +never +\n", out)
    assert re.search(r"length=10it +1 CPU, T4 +1 *\n", out)
    assert (
        "resources.custom.lab: each trial asks for 2 lab, but the largest node here has 1" in err
    )
    assert "(arm length=20it)" in err


def test_plan_shows_what_waits_until_the_cluster_has_grown(cluster, tmp_path, capsys):
    wanted = "axes.zip.resources.gpus=[2, 0]"
    code, out, _ = plan(tmp_path, cluster, capsys, wanted)
    assert code == 0
    assert re.search(r"length=20it.* +1 CPU, 2 GPU, 1 lab +none yet: the cluster grows", out)
    code, _, err = plan(tmp_path, cluster, capsys, "axes.zip.resources.gpus=[3, 0]")
    assert code == 2
    assert "resources.gpus: each trial asks for 3 GPU, but the largest node here has 2" in err


def test_run_refuses_it_too_and_trains_nothing(cluster, tmp_path):
    sweep = parse_sweep(SWEEP, overrides=["axes.zip.resources.accelerator=[null, H100]"])
    store = Store.open(tmp_path)
    with pytest.raises(Exception, match=r"resources\.accelerator: .* with H100, .* there is T4\."):
        run(sweep, store, Diary(say=lambda line: None), address=cluster)
    assert not store.sweeps()
