"""Watching, reading and cancelling a run through the store, by the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY


SLOW = TINY.replace("2ep", "30ep")


@pytest.fixture
def running(tmp_path):
    """A run in a process of its own that has committed a round, and its store."""
    file, store = tmp_path / "slow.yaml", tmp_path / "store"
    file.write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "raylottery", "run", file, "--store", store, "--inline"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not records(store):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    yield process, store
    if process.poll() is None:
        process.kill()
    process.communicate()


def records(store: Path) -> set[Path]:
    return set(store.glob("rounds/*/*/record.json"))


@pytest.mark.parametrize("more", [[], ["--now"]])
def test_one_cancel_ends_the_run_and_loses_no_finished_round(
    running, raylottery, run_inline, more
):
    process, store = running
    shown = json.loads(raylottery("status", "tiny", "--store", store, "--json").stdout)
    [run] = shown["runs"]
    assert (run["pid"], run["place"], run["seems_alive"]) == (process.pid, "this process", True)
    [listed] = json.loads(raylottery("ls", "--store", store, "--json").stdout)
    assert listed["runs"] == 1

    done = raylottery("cancel", "tiny", "--store", store, *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"run {run['run']} on" in done.stdout
    assert ("ends at once" in done.stdout) == bool(more)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command to go on" in out
    after = records(store)
    assert after
    assert list(store.rglob("lease.json")) == []
    assert not list(store.glob("sweeps/tiny/runs/*"))
    assert not list(store.glob("sweeps/tiny/*cancel*"))

    again = raylottery("cancel", "tiny", "--store", store)
    assert (again.returncode, again.stdout) == (3, "")
    assert "nothing of 'tiny' runs" in again.stderr
    rest = run_inline(store, text=SLOW)
    assert len(rest.ledger.trained) == 18 - len(after)


def test_a_run_that_was_killed_is_told_from_one_that_lives(running, raylottery):
    process, store = running
    process.kill()
    process.wait()
    printed = raylottery("status", "tiny", "--store", store).stdout
    assert "last heard of at" in printed
    watched = raylottery("status", "tiny", "--store", store, "--watch")
    assert watched.returncode == 0, "it does not wait for what is dead"
    done = raylottery("cancel", "tiny", "--store", store)
    assert done.returncode == 3
    assert "is gone: last heard of at" in done.stderr
    assert not list(store.glob("sweeps/tiny/runs/*"))


def test_watch_looks_until_the_run_has_ended(running, raylottery):
    _, store = running
    watcher = subprocess.Popen(
        [sys.executable, "-m", "raylottery", "status", "tiny", "--store", store, "--watch"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout is not None
    first = watcher.stdout.readline()
    assert first.startswith("tiny: ")
    assert " of 18 distinct rounds done" in first
    assert raylottery("cancel", "tiny", "--store", store, "--now").returncode == 0
    rest, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    assert "lineage" in rest, "at the end, the whole picture"


def test_logs_of_all_of_one_and_of_those_that_failed(raylottery, run_inline, tmp_path):
    changes = ("trainer.optimizer=sgd", "axes={trainer.lr: [0.01, 1.0e+20]}", "controls=[]",
               "seeds=[0]")  # fmt: skip
    assert run_inline(tmp_path, *changes).exit_code == 1
    every = json.loads(raylottery("logs", "tiny", "--store", tmp_path, "--json").stdout)
    assert [one["state"] for one in every] == ["done", "failed"]
    [done, failed] = every
    assert "round 2 ticket" in done["log"]
    assert "TrainingError" in failed["log"]
    printed = raylottery("logs", "tiny", "--store", tmp_path, "--failed").stdout
    assert printed.startswith(f"== {failed['lineage']} (lr=1e+20, seed 0: failed)\n")
    assert done["lineage"] not in printed
    one = raylottery("logs", "tiny", done["lineage"][:5], "--store", tmp_path).stdout
    assert one.endswith(done["log"])
    none = raylottery("logs", "tiny", "zzz", "--store", tmp_path)
    assert none.returncode == 3
    assert "begins with 'zzz'" in none.stderr
