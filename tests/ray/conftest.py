"""One quickstart on a real local Ray, run by the real command, for every test that reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylottery.driver.cluster import ENVIRONMENT
from raylottery.store import layout
from tests.conftest import ROOT, WEIRD


def scratch_folders() -> set[Path]:
    """Where runs keep Tune's own files; a killed run may have left one before."""
    return set(Path(tempfile.gettempdir()).glob("raylottery-*"))


@pytest.fixture(scope="session")
def scratch_before() -> set[Path]:
    return scratch_folders()


@pytest.fixture(scope="session")
def quickstart(
    raylottery, scratch_before, tmp_path_factory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The store and the output of `raylottery run sweeps/quickstart.yaml`."""
    store = tmp_path_factory.mktemp("quickstart") / WEIRD
    # About a minute on an idle machine; beside other work it has taken five.
    done = raylottery("run", ROOT / "sweeps/quickstart.yaml", "--store", store, timeout=840)
    assert done.returncode == 0, done.stderr + done.stdout
    return store, done


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[dict]]:
    """The rows of a sweep's table."""

    def read(store: Path, sweep: str, table: str = "rounds") -> list[dict]:
        return pq.read_table(store / "sweeps" / sweep / f"{table}.parquet").to_pylist()

    return read


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray in this process with eight logical CPUs and one logical GPU."""
    os.environ.update({**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=8, num_gpus=1)
    yield
    ray.shutdown()


@pytest.fixture
def killing() -> Callable[..., threading.Thread]:
    """Kills whoever trains a round, as soon as its lease, or another file, is there."""

    def begin(
        store: Path,
        key: str,
        into: float = 0.0,
        sign: Callable[[str], str] = layout.lease,
        how: signal.Signals = signal.SIGKILL,
    ) -> threading.Thread:
        lease = store / layout.lease(key)

        def kill() -> None:
            for _ in range(6000):
                if (store / sign(key)).exists():
                    victim = json.loads(lease.read_text())["pid"]
                    time.sleep(into)
                    os.kill(victim, how)
                    return
                time.sleep(0.01)
            raise AssertionError(f"nobody ever trained {key}")

        killer = threading.Thread(target=kill)
        killer.start()
        return killer

    return begin
