"""A sweep on the compiled engine, whole."""

from __future__ import annotations

import pytest

from raylottery.trainers.classifier.compiled.learner import Learner


COMPILED = ("trainer.engine=compiled", "checkpoint=10it")
UPDATES = 2 * 35
"""Of a round."""


def test_a_sweep_runs_and_its_rows_say_which_engine_it_was(tmp_path, run_inline, table, fixed):
    result = run_inline(tmp_path / "one", *COMPILED)
    rows = table(tmp_path / "one")
    assert result.exit_code == 0
    assert {row["engine"] for row in rows} == {"compiled"}
    assert {row["device"] for row in rows} == {"cpu"}
    assert not any(row["revived"] for row in rows)
    assert all(row["min_loss_step"] is not None for row in rows)
    assert not run_inline(tmp_path / "one", *COMPILED).ledger.trained

    run_inline(tmp_path / "two", *COMPILED)
    assert fixed(table(tmp_path / "two")) == fixed(rows)
    for name in ("curves", "layers"):
        again = table(tmp_path / "two", name)
        assert fixed(again) == fixed(table(tmp_path / "one", name)), name


def test_both_engines_share_a_store_and_no_round(tmp_path, run_inline, table):
    run_inline(tmp_path, "name=plain")
    run_inline(tmp_path, "name=tiny", *COMPILED)
    plain, compiled = table(tmp_path, sweep="plain"), table(tmp_path)
    assert not {row["key"] for row in plain} & {row["key"] for row in compiled}
    for row, other in zip(plain, compiled, strict=True):
        assert (row["kept"], row["density"]) == (other["kept"], other["density"])
        assert row["score"] == pytest.approx(other["score"], abs=0.06)


def test_fine_tuning_for_nothing_measures_what_pruning_left(tmp_path, run_inline, table):
    changes = ("rewind={weights: final, retrain: 0it}", "controls=[]", "axes={}")
    assert run_inline(tmp_path, *COMPILED, *changes).exit_code == 0
    assert {row["steps"] for row in table(tmp_path) if row["round"]} == {0}


def test_a_round_that_was_cut_off_goes_on_and_ends_in_the_undisturbed_table(
    tmp_path, run_inline, table, fixed, monkeypatch
):
    changes = (*COMPILED, "seeds=[0]", "axes={}", "retries=0")
    run_inline(tmp_path / "whole", *changes)
    made: list[int] = []
    real = Learner.advance

    def advance(self, step, goal, *, auditing):
        if limit and sum(made) > limit:
            raise ConnectionError("the machine is gone")
        made.append(goal - step)
        real(self, step, goal, auditing=auditing)

    monkeypatch.setattr(Learner, "advance", advance)
    limit = UPDATES + 33
    assert run_inline(tmp_path / "cut", *changes).exit_code == 1
    lost = sum(made) % UPDATES % 10
    limit = 0
    assert run_inline(tmp_path / "cut", *changes).exit_code == 0
    assert sum(made) == 5 * UPDATES + lost, "nothing else was trained twice"
    for name in ("rounds", "curves", "layers"):
        expected = table(tmp_path / "whole", name)
        assert fixed(table(tmp_path / "cut", name)) == fixed(expected), name
