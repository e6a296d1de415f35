"""Ctrl-C as a terminal sends it: to every process in the foreground, Ray's own included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import FREE, TINY


SLOW = TINY.replace("2ep", "12ep")


def records(store: Path) -> set[Path]:
    return set(store.rglob("record.json"))


def children(session: int) -> list[str]:
    """The processes of a session that still run."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=,args=", "-s", str(session)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line for line in found.stdout.splitlines() if " Z" not in line]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> pa.Table:
    """The table of a run that nobody interrupted."""
    store = tmp_path_factory.mktemp("undisturbed")
    run_inline(store)
    return fixed(store)


def run_inline(store: Path) -> Result:
    """Runs the sweep, or what is left of it, in this process."""
    watcher = Diary(say=lambda line: None)
    return run(parse_sweep(SLOW), Store.open(store), watcher, inline=True)


def fixed(store: Path) -> pa.Table:
    """The rounds table without the columns that may differ from run to run."""
    table = pq.read_table(store / "sweeps/tiny/rounds.parquet")
    return table.drop_columns(list(FREE))


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_loses_no_finished_round_and_a_second_run_goes_on(tmp_path, undisturbed, times):
    sweep, store = tmp_path / "slow.yaml", tmp_path / "store"
    sweep.write_text(SLOW)
    command = subprocess.Popen(
        [sys.executable, "-m", "raylottery", "run", sweep, "--store", store],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(records(store)) < 4:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    before = records(store)
    os.killpg(command.pid, signal.SIGINT)
    if times == 2:
        time.sleep(0.3)
        os.killpg(command.pid, signal.SIGINT)
    out, err = command.communicate(timeout=90)
    assert command.returncode == 130, err
    assert "Traceback" not in out + err
    assert "run the same command to go on" in out
    if times == 1:
        assert "stopping: the running rounds are finished first" in out

    after = records(store)
    assert before <= after
    assert len(after) <= len(before) + 4, "a round for each of two workers, and one they had ended"
    if times == 1:
        assert not list(store.rglob("lease.json")), "the running rounds were finished"
        table = pq.read_table(store / "sweeps/tiny/rounds.parquet")
        assert len(set(table["key"].to_pylist())) == len(after)
    assert not list(store.glob("sweeps/tiny/stop-*"))
    for _ in range(100):
        if not children(command.pid):
            break
        time.sleep(0.1)
    assert not children(command.pid), "no process of the run is left"

    rest = run_inline(store)
    assert rest.exit_code == 0
    assert len(rest.ledger.trained) == 18 - len(after)
    assert fixed(store).equals(undisturbed)
