"""What is done is never trained again; what is new is all that is trained."""

from __future__ import annotations

from raylottery.driver.plan import make_plan
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import TINY


def test_a_dense_network_is_trained_once_a_seed_for_all_arms(tmp_path, run_inline, table):
    result = run_inline(tmp_path)
    rows = table(tmp_path)
    dense = [row for row in rows if row["round"] == 0]
    assert len(dense) == 4, "two arms, two seeds"
    assert len({row["key"] for row in dense}) == 2, "one key a seed"
    assert sorted(row["reused"] for row in dense) == [False, False, True, True]
    assert len(result.ledger.trained) == len({row["key"] for row in rows}) == 2 + 4 * 2 * 2
    for seed in (0, 1):
        scores = {row["score"] for row in dense if row["seed"] == seed}
        assert len(scores) == 1, "arms are paired on it"


def test_running_again_trains_nothing_and_changes_no_byte(tmp_path, run_inline, snapshot_of):
    run_inline(tmp_path)
    before = snapshot_of(tmp_path)
    records = sorted(tmp_path.rglob("record.json"))
    again = run_inline(tmp_path)
    assert not again.ledger.trained
    assert snapshot_of(tmp_path) == before
    assert sorted(tmp_path.rglob("record.json")) == records
    assert set(before) == {
        f"sweeps/tiny/{t}.parquet" for t in ("rounds", "curves", "layers", "failures", "lineages")
    }


def test_two_runs_from_scratch_give_the_same_table(tmp_path, run_inline, table, fixed):
    run_inline(tmp_path / "a")
    run_inline(tmp_path / "b")
    assert fixed(table(tmp_path / "a")) == fixed(table(tmp_path / "b"))
    assert table(tmp_path / "a", "curves") == table(tmp_path / "b", "curves")
    assert table(tmp_path / "a", "layers") == table(tmp_path / "b", "layers")


def test_a_seed_more_trains_that_seed_alone(tmp_path, run_inline, table):
    run_inline(tmp_path)
    before = table(tmp_path)
    more = run_inline(tmp_path, "seeds=[0, 1, 2]")
    assert len(more.ledger.trained) == 1 + 2 * 2 * 2
    after = table(tmp_path)
    assert [row for row in after if row["seed"] != 2] == before


def test_an_axis_value_more_trains_that_arm_alone_and_reuses_the_trunks(tmp_path, run_inline):
    run_inline(tmp_path)
    more = run_inline(tmp_path, "axes={prune.scope: [global, layerwise, erk]}")
    assert len(more.ledger.trained) == 2 * 2 * 2, "one arm, two seeds, two rounds with a control"


def test_two_rounds_more_train_two_rounds_a_lineage(tmp_path, run_inline, table):
    run_inline(tmp_path)
    before = {row["key"] for row in table(tmp_path)}
    more = run_inline(tmp_path, "prune.rounds=4")
    assert len(more.ledger.trained) == 4 * 2 * 2
    assert before < {row["key"] for row in table(tmp_path)}


def test_fewer_cells_shrink_the_table_and_leave_the_rounds(tmp_path, run_inline, table):
    run_inline(tmp_path)
    records = set(tmp_path.rglob("record.json"))
    fewer = run_inline(tmp_path, "seeds=[1]")
    assert not fewer.ledger.trained
    assert {row["seed"] for row in table(tmp_path)} == {1}
    assert set(tmp_path.rglob("record.json")) == records


def test_another_sweep_over_the_same_networks_reuses_their_trunks(tmp_path, run_inline, table):
    run_inline(tmp_path)
    other = run_inline(tmp_path, "name=other", "prune.fraction=0.3")
    assert len(other.ledger.trained) == 4 * 2 * 2, "everything but the dense rounds"
    dense = [row for row in table(tmp_path, sweep="other") if row["round"] == 0]
    assert all(row["reused"] for row in dense)


def test_plan_and_run_compute_the_same_work(tmp_path, run_inline):
    sweep = parse_sweep(TINY)
    planned = make_plan(sweep, None)
    result = run_inline(tmp_path)
    assert {round.key for round in planned.todo} == result.ledger.trained
    assert not make_plan(sweep, Store.existing(str(tmp_path))).todo


def test_a_snapshot_nobody_kept_is_remade_to_the_bit(tmp_path, run_inline, table, fixed):
    """The first sweep did not know that a later one would rewind to step 13."""
    late = ("rewind.weights=13it", "axes={prune.scope: [global]}")
    run_inline(tmp_path / "two")
    run_inline(tmp_path / "two", "name=late", *late)
    run_inline(tmp_path / "one", "name=late", *late)
    assert fixed(table(tmp_path / "two", sweep="late")) == fixed(
        table(tmp_path / "one", sweep="late")
    )
    logs = "".join(p.read_text() for p in (tmp_path / "two/sweeps/late/logs").glob("*.log"))
    assert "nobody kept step 13" in logs


def test_a_remade_snapshot_that_differs_is_refused(tmp_path, run_inline, monkeypatch):
    """On other hardware the first steps may come out otherwise: no arm is trained from them."""
    from raylottery.trainers.classifier import rounds

    run_inline(tmp_path)
    monkeypatch.setattr(rounds, "digest", lambda net: "other bits")
    failed = run_inline(tmp_path, "name=late", "rewind.weights=13it")
    assert len(failed.failures) == 4
    assert all("cannot be remade here" in line for line in failed.failures.values())
    assert failed.exit_code == 1


def test_weird_paths_work(weird_path, run_inline, table):
    run_inline(weird_path)
    assert len(table(weird_path)) == 4 * (1 + 2 * 2)
