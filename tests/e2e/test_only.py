"""What is not chosen to lose weights stays whole, and counts as prunable all the same."""

from __future__ import annotations

import pytest

from raylottery.errors import UsageError
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.tickets import harvest
from tests.e2e.conftest import TINY


def test_the_layers_that_are_not_chosen_stay_whole(run_inline, table, tmp_path):
    changes = ("prune.only=['0']", "seeds=[0]", "axes.prune.scope=[global, layerwise, erk]")
    run_inline(tmp_path, *changes)
    rows = table(tmp_path)
    assert {(row["round"], row["prunable"], row["kept"]) for row in rows} == {
        (0, 600, 600), (1, 600, 360), (2, 600, 240),
    }  # fmt: skip
    assert {row["density"] for row in rows} == {1.0, 0.6, 0.4}
    kept = {(row["round"], row["layer"], row["kept"]) for row in table(tmp_path, "layers")}
    assert kept == {
        (0, "0.weight", 480), (1, "0.weight", 240), (2, "0.weight", 120),
        *((index, "2.weight", 120) for index in (0, 1, 2)),
    }  # fmt: skip
    store = Store.open(str(tmp_path))
    for lineage in lineages(parse_sweep(TINY, overrides=changes)):
        for round in lineage.rounds:
            weights, masks = harvest(round.key, store)
            assert list(masks) == ["0.weight", "2.weight"]
            assert weights["2.weight"].all(), "the output layer stays whole"


def test_arms_that_choose_other_layers_share_the_dense_rounds(run_inline, table, tmp_path):
    axes = "axes={prune.only: [['*'], ['0'], ['2.*']]}"
    result = run_inline(tmp_path, axes, "controls=[]", "prune.rounds=1")
    assert len(result.ledger.trained) == 2 + 3 * 2
    rows = table(tmp_path)
    assert len({row["key"] for row in rows if row["round"] == 0}) == 2
    kept = {(row["arm_label"], row["kept"]) for row in rows if row["round"] == 1}
    assert sorted(count for _, count in kept) == [300, 360, 540]


def test_a_mask_rule_settles_on_what_would_be_drawn_of_the_chosen_layers(
    run_inline, table, tmp_path
):
    stop = "stop={rule: mask-difference, within: 0.99}"
    run_inline(tmp_path, "prune.only=['0']", "seeds=[0]", "axes={}", stop, "controls=[]")
    rows = table(tmp_path)
    assert [row["stopped_by"] for row in rows] == ["mask-difference"] * 3
    assert [row["kept"] for row in rows] == [600, 360, 240]


def test_a_pattern_that_fits_nothing_starts_nothing(run_inline, tmp_path):
    with pytest.raises(UsageError) as refused:
        run_inline(tmp_path, "prune.only=['2.wieght']", "axes={}")
    assert str(refused.value).startswith("tiny: prune.only: '2.wieght' fits no ")
    assert str(refused.value).endswith("parameter of the network. Did you mean '2.weight'?")
    assert not list(tmp_path.rglob("record.json"))
