"""What fails is told, noted and tried again; what does not depend on it goes on."""

from __future__ import annotations

import shlex

import pytest

from raylottery.cli import main
from raylottery.driver import trial
from raylottery.driver.memory import BOUNDED
from raylottery.driver.plan import make_plan
from raylottery.errors import TrainingError, UsageError
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import TINY


@pytest.fixture
def broken_controls(monkeypatch):
    """Controls cannot be drawn."""
    from raylottery import tickets

    def refuse(*arguments, **options):
        raise TrainingError("this control cannot be drawn. Leave it out")

    monkeypatch.setattr(tickets, "alter", refuse)


def test_a_control_that_fails_holds_up_no_ticket(tmp_path, run_inline, table, broken_controls):
    result = run_inline(tmp_path)
    assert result.exit_code == 1
    assert len(result.failures) == 4
    rows = table(tmp_path)
    assert {(row["control"], row["round"]) for row in rows} == {
        ("ticket", 0), ("ticket", 1), ("ticket", 2),
    }  # fmt: skip
    notes = table(tmp_path, "failures")
    assert {note["control"] for note in notes} == {"random-ticket"}
    assert {note["first_line"] for note in notes} == {"this control cannot be drawn. Leave it out"}


def test_only_failed_trains_what_failed_and_nothing_else(tmp_path, run_inline, monkeypatch):
    with monkeypatch.context() as broken:
        from raylottery import tickets

        real = tickets.prune

        def refuse(trained, masks, how, *rest, **options):
            if how.scope == "layerwise":
                raise TrainingError("no layerwise today")
            return real(trained, masks, how, *rest, **options)

        broken.setattr(tickets, "prune", refuse)
        first = run_inline(tmp_path, "seeds=[0]")
    assert len(first.failures) == 1
    again = run_inline(tmp_path, only_failed=True)
    trained = {again.plan.rounds[key] for key in again.ledger.trained}
    assert {round.seed for round in trained} == {0}, "seed 1 was never tried, so it did not fail"
    assert len(trained) == 2 * 2
    assert again.exit_code == 0


def test_only_failed_without_failures_says_what_is_left(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    words = ["run", f"{tmp_path}/tiny.yaml", "--store", f"{tmp_path}/s", "--inline"]
    assert main([*words, "--only", "failed"]) == 0
    said = capsys.readouterr().out
    assert "no lineage of tiny has failed, and 18 rounds are left: run it without --only" in said


def test_a_worker_that_is_lost_is_noted_by_the_driver(tmp_path, run_inline, table, monkeypatch):
    """It cannot note anything itself, and must not look as if nothing had happened."""

    def lost(task):
        raise MemoryError("killed")
        yield

    monkeypatch.setattr("raylottery.driver.cohort.train", lost)
    result = run_inline(tmp_path, "retries=0", "seeds=[0]")
    assert result.exit_code == 1
    assert {result.plan.state(line) for line in result.plan.lineages} == {"failed"}
    [note, *_] = table(tmp_path, "failures")
    assert (note["error"], note["first_line"], note["round"]) == ("WorkerLost", "killed", 0)
    monkeypatch.undo()
    assert run_inline(tmp_path, "seeds=[0]", only_failed=True).exit_code == 0


def test_a_worker_that_sees_another_store_trains_nothing(tmp_path, run_inline):
    sweep = parse_sweep(TINY)
    run_inline(tmp_path / "shared", "prune.rounds=1", "seeds=[0]")
    [lineage, *_] = make_plan(sweep, None).lineages
    task = trial.Task(
        sweep="tiny", store=str(tmp_path / "own"), lineage=lineage, extents={}, run="0" * 12
    )
    [signal] = trial.train(task)
    assert signal["event"] == "failed"
    assert "does not see the driver's store" in signal["error"]
    assert not (tmp_path / "own").exists()


def test_a_worker_with_other_keys_trains_nothing(tmp_path, run_inline):
    """Another version would put rounds under keys that the driver never looks for."""
    run_inline(tmp_path, "prune.rounds=1", "seeds=[0]")
    [lineage, *_] = make_plan(parse_sweep(TINY), None).lineages
    task = trial.Task(
        sweep="tiny", store=str(tmp_path), lineage=lineage, extents={"f" * 32: []}, run="0" * 12
    )
    [signal] = trial.train(task)
    assert "install one version everywhere" in signal["error"]


def test_rounds_that_are_not_where_they_should_be_are_an_error(tmp_path, run_inline, monkeypatch):
    """A trial that says it is done, while the store has nothing."""

    def liar(task):
        for round in task.lineage.rounds:
            yield {"event": "round", "key": round.key, "seconds": 1.0}
        yield {"event": "done"}

    monkeypatch.setattr("raylottery.driver.cohort.train", liar)
    result = run_inline(tmp_path)
    assert result.missing == 18
    assert result.exit_code == 1


def test_a_gpu_that_is_not_there_is_refused_inline_too(tmp_path, run_inline, monkeypatch):
    monkeypatch.setattr("raylottery.driver.run.gpus", list)
    with pytest.raises(UsageError, match=r"resources\.gpus.*has 0"):
        run_inline(tmp_path / "s", "resources.gpus=0.5")
    assert not (tmp_path / "s").exists()
    assert Store.find(str(tmp_path / "s")) is None


def test_a_round_that_broke_is_tried_again_inline_too(tmp_path, run_inline, table, monkeypatch):
    """After a second: nothing is trained in between, for it is the only lineage."""
    from raylottery.trainers.classifier.loop import Classifier

    real, calls = Classifier.train, []

    def unsteady(self, start):
        calls.append(start)
        if len(calls) == 2:
            raise OSError("the disk is away")
        return real(self, start)

    monkeypatch.setattr(Classifier, "train", unsteady)
    changes = ("seeds=[0]", "axes={}", "controls=[]")
    result = run_inline(tmp_path, *changes)
    assert result.exit_code == 0
    assert [row["attempt"] for row in table(tmp_path)] == [1, 2, 1]
    [note] = table(tmp_path, "failures")
    assert (note["error"], note["first_line"]) == ("OSError", "the disk is away")
    assert len(calls) == 4


def test_what_cannot_be_mended_is_not_tried_again(tmp_path, run_inline, broken_controls, table):
    run_inline(tmp_path, "seeds=[0]", "axes={}")
    assert {note["attempt"] for note in table(tmp_path, "failures")} == {1}


@pytest.mark.skipif(not BOUNDED, reason="only Linux bounds a process")
def test_memory_is_bounded_inline_and_the_driver_is_not(tmp_path, run_inline, table, monkeypatch):
    import resource

    from raylottery.trainers.classifier.loop import Classifier

    real, free = Classifier.train, resource.getrlimit(resource.RLIMIT_DATA)

    def greedy(self, start):
        if start.ticket.masks.density < 1:
            bytearray(4 * 10**9)
        return real(self, start)

    monkeypatch.setattr(Classifier, "train", greedy)
    changes = ("seeds=[0]", "axes={}", "controls=[]", "resources.memory=1GB")
    result = run_inline(tmp_path, *changes)
    assert result.exit_code == 1
    [said] = result.failures.values()
    assert "out of memory: the trial asked for 1GB (resources.memory)" in said
    [note] = table(tmp_path, "failures")
    assert (note["error"], note["attempt"], note["round"]) == ("OutOfMemory", 1, 1)
    assert [row["round"] for row in table(tmp_path)] == [0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == free


def test_an_inline_run_says_that_it_keeps_no_timeout(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    words = ["run", f"{tmp_path}/tiny.yaml", "--store", f"{tmp_path}/s", "--inline"]
    small = ["--set", "seeds=[0]", "--set", "axes={}", "--set", "prune.rounds=1"]
    assert main([*words, *small, "--set", "timeout=30m"]) == 0
    assert "on this process, which keeps no timeout of 30m" in capsys.readouterr().out


def test_a_run_with_failures_says_how_to_try_only_those(tmp_path, capsys, broken_controls):
    (tmp_path / "my sweep.yaml").write_text(TINY)
    words = ["run", f"{tmp_path}/my sweep.yaml", "--store", f"{tmp_path}/s", "--inline"]
    small = ["--set", "seeds=[0]", "--set", "axes={}"]
    assert main([*words, *small]) == 1
    said = capsys.readouterr().out
    [line] = [line for line in said.splitlines() if line.startswith("try only those again: ")]
    again = shlex.split(line.partition(": ")[2])
    assert again[0] == "raylottery"
    assert main(again[1:]) == 1, "the control is still broken"
    assert capsys.readouterr().out.count("failed: ") >= 1
