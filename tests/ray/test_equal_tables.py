"""Inline, on a local Ray and on a cluster: one sweep, one table."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.spec import read_sweep
from raylottery.store import Store
from tests.conftest import ROOT, WEIRD
from tests.e2e.conftest import FREE


SMOKE = ROOT / "sweeps/smoke.yaml"


def fixed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in FREE} for row in rows]


@pytest.fixture(scope="module")
def inline(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("inline")
    watcher = Diary(say=lambda line: None)
    assert run(read_sweep(SMOKE), Store.open(store), watcher, inline=True).exit_code == 0
    return store


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head started as a user would, on its own ports; stopped by its process ids."""
    scratch = tmp_path_factory.mktemp("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray = Path(sys.executable).parent / "ray"
    # A session of its own, so that everything it starts can be found and stopped.
    head = subprocess.Popen(
        [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--num-gpus=0",
         "--include-dashboard=false", f"--temp-dir={scratch}", "--disable-usage-stats"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert head.poll() is None, "the head ended"
            time.sleep(0.2)
    yield f"127.0.0.1:{port}"
    head.terminate()  # it ends its own processes, and says so with an exit code of 1
    head.wait(60)


def in_a_terminal(python: Path, *arguments: object) -> tuple[int, str]:
    """Exit code and output of the command with a terminal of its own."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [python, "-m", "raylottery", *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},  # a local Ray is local all the same
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return command.wait(60), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_a_local_ray_gives_the_inline_tables_and_a_live_board(inline, tmp_path, rows):
    environment = tmp_path / WEIRD
    environment.symlink_to(sys.prefix)
    python = environment / "bin" / "python"
    code, shown = in_a_terminal(python, "run", SMOKE, "--store", tmp_path)
    assert code == 0, shown
    assert fixed(rows(tmp_path, "smoke")) == fixed(rows(inline, "smoke"))
    assert rows(tmp_path, "smoke", "curves") == rows(inline, "smoke", "curves")
    assert rows(tmp_path, "smoke", "layers") == rows(inline, "smoke", "layers")
    assert re.search(r"scope=layerwise +0/5 +0/5", shown), "arms by seeds, before the first round"
    assert "trained 18 rounds" in shown
    noise = ("Traceback", "WARNING", "DeprecationWarning", "pid=", "logger.cc")
    assert not any(word in shown for word in noise), shown


def test_a_cluster_gives_the_inline_tables(raylottery, inline, cluster, tmp_path, rows):
    # Said as the head was started: a token that lies about would be taken for the cluster's.
    done = raylottery(
        "run", SMOKE, "--store", tmp_path, "--address", cluster, RAY_AUTH_MODE="disabled"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert fixed(rows(tmp_path, "smoke")) == fixed(rows(inline, "smoke"))


def test_more_gpus_than_exist_are_refused_before_anything_is_written(
    raylottery, cluster, tmp_path
):
    store = tmp_path / "store"
    done = raylottery(
        "run", SMOKE, "--store", store, "--address", cluster, "--set", "resources.gpus=1"
    )
    assert done.returncode == 2
    assert "resources.gpus" in done.stderr
    assert "--set resources.gpus=0" in done.stderr
    assert not (store / "sweeps").exists()
    assert not (store / "rounds").exists()
