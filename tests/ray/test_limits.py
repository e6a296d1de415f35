"""Trials that break, hang or take too much, on a real Ray: no other one is held up."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from tests.e2e.conftest import TINY


NETS = """
import os, time
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 8), nn.ReLU(), nn.Linear(8, classes)
        )

    def forward(self, x):
        meet("training")
        if (self.net[1].weight == 0).any():
            meet("pruned")
        return self.net(x)

def net(classes, shape):
    meet("making")
    return Net(shape, classes)

def meet(where):
    '''Does what a file in this folder asks for, but not in the driver.'''
    if os.getpid() == int(os.environ["DRIVER"]):
        return
    if (HERE / f"{where}-hangs").exists() or taken(f"{where}-hangs-once"):
        while True:
            time.sleep(1)
    if (HERE / f"{where}-breaks").exists() or taken(f"{where}-breaks-once"):
        raise OSError("the disk is away")
    if (HERE / f"{where}-takes-all").exists():
        torch.empty(10**9)

def taken(name):
    try:
        (HERE / name).unlink()
        return True
    except FileNotFoundError:
        return False
"""
CHANGES = ("axes={trainer.model: [mlp-12, 'faulty_nets:net']}", "controls=[]", "prune.rounds=1")


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Iterator[Path]:
    """A folder with networks that do what files in it ask for, which workers import from."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "faulty_nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("DRIVER", str(os.getpid()))
        yield folder


pytestmark = pytest.mark.usefixtures("faults", "local_ray")


@pytest.fixture(autouse=True)
def none_left(faults) -> Iterator[None]:
    yield
    for file in faults.glob("*-*"):
        file.unlink()


def on_ray(store: Path, *changes: str, **options) -> tuple[Result, list[str]]:
    said: list[str] = []
    sweep = parse_sweep(TINY, overrides=(*CHANGES, *changes))
    return run(sweep, Store.open(store), Diary(say=said.append), **options), said


def attempts(result: Result, store: Path) -> dict[tuple[str, int, int], int]:
    """By model, seed and round."""
    records = Store.existing(store).records(result.plan.rounds)
    return {
        (r.spec["trainer"]["model"], r.spec["seed"], r.spec["round"]): r.attempt
        for r in records.values()
    }


def test_an_unexpected_error_is_retried_as_often_as_the_sweep_says(tmp_path, faults):
    (faults / "pruned-breaks").touch()
    changes = ("axes={}", "trainer.model=faulty_nets:net", "seeds=[0]", "retries=2")
    result, said = on_ray(tmp_path, *changes)
    assert result.exit_code == 1
    [notes] = result.plan.failures.values()
    assert [note["attempt"] for note in notes] == [1, 2, 3]
    assert {(note["round"], note["error"]) for note in notes} == {(1, "OSError")}
    broke = [line for line in said if line.startswith("broke off:")]
    assert [line.rpartition("again in ")[2] for line in broke] == ["1 s", "2 s"]
    assert list(result.failures.values()) == ["round 1 (ticket): the disk is away"]
    log = (tmp_path / notes[0]["log"]).read_text()
    assert log.count("OSError: the disk is away") == 3
    assert log.count("round 0 ticket") == 1, "the finished round is not trained again"
    (faults / "pruned-breaks").unlink()
    again, _ = on_ray(tmp_path, *changes)
    assert again.exit_code == 0
    assert len(again.ledger.trained) == 1


def test_where_all_that_is_left_waits_the_run_waits_too(tmp_path, faults, monkeypatch):
    """Tune asks again while nothing runs, now and then; other lineages had gone on meanwhile."""
    from raylottery.driver.tune import Asker

    idle = []
    suggest = Asker.suggest

    def counted(self, trial_id):
        found = suggest(self, trial_id)
        if found is None and not self.queue._running:
            idle.append(trial_id)
        return found

    monkeypatch.setattr(Asker, "suggest", counted)
    (faults / "training-breaks-once").touch()
    (faults / "pruned-breaks-once").touch()
    result, said = on_ray(tmp_path, "seeds=[0]")
    assert result.exit_code == 0, said
    assert not result.plan.todo
    assert len([line for line in said if line.startswith("broke off:")]) == 2
    assert sorted(attempts(result, tmp_path).values()) == [1, 1, 2, 2]
    assert 1 <= len(idle) <= 20
    assert result.failures == {}


def test_a_worker_that_is_stopped_in_the_middle_is_ended_too(tmp_path, killing):
    """It beats no more and answers nothing: its round is taken over once it is gone."""
    changes = ("trainer.length=30ep", "seeds=[0]", "axes={}", "timeout=20s")
    [lineage] = lineages(parse_sweep(TINY, overrides=(*CHANGES, *changes)))
    killer = killing(tmp_path, lineage.rounds[1].key, how=signal.SIGSTOP)
    result, said = on_ray(tmp_path, *changes)
    killer.join()
    assert result.exit_code == 0, said
    assert "no round within 20s" in "".join(said)
    assert sorted(attempts(result, tmp_path).values()) == [1, 2]


def test_a_trial_that_hangs_is_ended_and_tried_again(tmp_path, faults):
    """One hangs while its network is made, one in a round; the others never notice."""
    (faults / "making-hangs-once").touch()
    (faults / "training-hangs-once").touch()
    result, said = on_ray(tmp_path, "timeout=25s")
    assert result.exit_code == 0, said
    assert not result.plan.todo
    broke = [line for line in said if line.startswith("broke off:")]
    assert len(broke) == 2
    assert all("no round within 25s" in line for line in broke)
    assert all(line.endswith("it is tried again in 1 s") for line in broke)
    took = attempts(result, tmp_path)
    again = {round for round, attempt in took.items() if attempt > 1}
    assert again == {("faulty_nets:net", 0, 0), ("faulty_nets:net", 1, 0)}
    assert max(took.values()) == 2
    assert not list(tmp_path.rglob("lease.json"))
    undisturbed, _ = on_ray(tmp_path / "again", inline=True)
    for key in undisturbed.plan.rounds:
        one, other = (Store.existing(at).record(key) for at in (tmp_path, tmp_path / "again"))
        assert one is not None
        assert other is not None
        assert one.result == other.result


def test_one_that_hangs_again_and_again_fails_and_says_why(tmp_path, faults):
    (faults / "training-hangs").touch()
    result, _ = on_ray(tmp_path, "timeout=20s", "retries=1", "seeds=[0]")
    assert result.exit_code == 1
    [failure] = result.failures.values()
    assert failure.startswith("no round within 20s, so its trial was ended; where rounds take")
    assert {result.plan.state(line) for line in result.plan.lineages} == {"done", "failed"}
    [notes] = (notes for notes in result.plan.failures.values() if notes)
    [note] = notes
    assert (note["error"], note["first_line"], note["round"]) == ("TimedOut", failure, 0)
    (faults / "training-hangs").unlink()
    again, _ = on_ray(tmp_path, only_failed=True)
    assert again.exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process")
def test_a_trial_that_takes_too_much_memory_fails_alone_and_leaves_its_worker_as_it_was(
    tmp_path, faults
):
    (faults / "training-takes-all").touch()
    changes = ("resources.memory=1GB", "seeds=[0, 1]")
    result, _ = on_ray(tmp_path, *changes, max_concurrent=1)
    assert result.exit_code == 1
    assert len(result.failures) == 2
    expected = (
        "out of memory: the trial asked for 1GB (resources.memory); ask for more or train smaller "
        "batches"
    )
    for line, failure in result.failures.items():
        assert failure == f"round 0 (ticket): {expected}"
        log = (tmp_path / layout.log("tiny", line)).read_text()
        assert "OutOfMemory" in log
        assert "faulty_nets.py" in log, "where it was"
    [one, other] = (notes for notes in result.plan.failures.values() if notes)
    assert (len(one), len(other)) == (1, 1), "it is not tried again"
    assert one[0]["error"] == "OutOfMemory"
    done = [line for line in result.plan.lineages if result.plan.state(line) == "done"]
    assert {line.arm.study.trainer.model for line in done} == {"mlp-12"}
    assert len(result.ledger.import_s) == 1, "its worker trained the next lineage"
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    more, _ = on_ray(tmp_path, "resources.memory=5GB", only_failed=True)
    assert more.exit_code == 0
