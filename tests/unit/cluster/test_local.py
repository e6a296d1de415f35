"""The local recipe, really run: up, a second node, a sweep, down, and nothing left."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.spec import read_sweep
from raylottery.store import Store
from tests.conftest import ROOT
from tests.e2e.conftest import FREE


pytestmark = pytest.mark.ray
LOCAL = ROOT / "cluster/local"
SMOKE = ROOT / "sweeps/smoke.yaml"
LISTENING = "0A"


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, str]]:
    """The environment of a cluster's own: folder, ports, and the ray of these tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = 20000 + probe.getsockname()[1] % 10 * 1000
    with tempfile.TemporaryDirectory(prefix="local-", dir="/tmp") as parent:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAYLOTTERY_CLUSTER": f"{parent}/c",
            "RAYLOTTERY_CLUSTER_PORT": str(port),
        }
        yield environment
        call(environment, "down")


def call(
    environment: dict[str, str], script: str, *words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LOCAL / script, *words], env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def processes(environment: dict[str, str]) -> set[int]:
    """All processes that live with the cluster's token."""
    mark = f"RAY_AUTH_TOKEN_PATH={environment['RAYLOTTERY_CLUSTER']}/token".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def listening(pids: set[int]) -> set[str]:
    """The addresses, as the kernel writes them, at which the processes wait for connections."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(handle)))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in sockets:
                found.add(fields[1].split(":")[0])
    return found


def sessions(leaders: list[str]) -> list[str]:
    """The processes of the recorded nodes, by the sessions that they lead."""
    shown = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", ",".join(leaders)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return [line for line in shown.splitlines() if " Z" not in line]


LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    "00000000000000000000000001000000",  # ::1
}


def table(store: Path):
    return pq.read_table(store / "sweeps/smoke/rounds.parquet").drop_columns(list(FREE))


def test_a_cluster_of_this_machine_gives_the_inline_table_and_leaves_nothing(
    recipe, raylottery, tmp_path
):
    up = call(recipe, "up", "--num-cpus=2")
    assert up.returncode == 0, up.stderr
    folder = Path(recipe["RAYLOTTERY_CLUSTER"])
    assert {path.stem for path in folder.glob("*.pid")} == {"head", "node-1"}
    assert "is there already" in call(recipe, "up").stderr, "one cluster in one folder"
    running = processes(recipe)
    assert running
    assert listening(running) <= LOOPBACK, "no port is open to another machine"
    assert (folder / "token").stat().st_mode & 0o077 == 0

    [address] = re.findall(r"--address (LOCALHOST:\d+)", up.stdout)
    done = raylottery(
        "run", SMOKE, "--store", tmp_path / "there", "--address", address,
        RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(folder / "token"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    here = Store.open(tmp_path / "here")
    run(read_sweep(SMOKE), here, Diary(say=lambda line: None), inline=True)
    assert table(tmp_path / "there").equals(table(tmp_path / "here"))

    leaders = sorted(path.read_text().strip() for path in folder.glob("*.pid"))
    assert len(sessions(leaders)) > len(leaders)
    assert call(recipe, "down").returncode == 0
    assert not processes(recipe)
    assert not sessions(leaders)
    assert not folder.exists()


def test_an_open_port_would_be_seen():
    with socket.create_server(("0.0.0.0", 0)):
        assert listening({os.getpid()}) - LOOPBACK


def test_down_says_that_nothing_is_up(recipe):
    down = call(recipe, "down")
    assert down.returncode == 1
    assert "no cluster is up" in down.stderr
