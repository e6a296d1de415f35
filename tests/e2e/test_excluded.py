"""What is excluded is in no mask, no count and no key but the sweep's own."""

from __future__ import annotations

import pytest

from raylottery.errors import UsageError
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.tickets import harvest
from tests.e2e.conftest import TINY


def test_an_excluded_layer_is_never_pruned_nor_counted(run_inline, table, tmp_path):
    changes = ("prune.exclude=['2']", "seeds=[0]", "axes.prune.scope=[global, layerwise, erk]")
    run_inline(tmp_path, *changes)
    rows = table(tmp_path)
    assert {(row["round"], row["prunable"], row["kept"]) for row in rows} == {
        (0, 480, 480), (1, 480, 240), (2, 480, 120),
    }  # fmt: skip
    assert {row["layer"] for row in table(tmp_path, "layers")} == {"0.weight"}
    store = Store.open(str(tmp_path))
    for lineage in lineages(parse_sweep(TINY, overrides=changes)):
        for round in lineage.rounds:
            weights, masks = harvest(round.key, store)
            assert list(masks) == ["0.weight"]
            assert weights["2.weight"].all(), "the output layer stays whole"


def test_a_mask_rule_looks_at_what_may_be_pruned(run_inline, table, tmp_path):
    """The dense round draws masks too, over the same set."""
    stop = "stop={rule: mask-difference, within: 0.99}"
    run_inline(tmp_path, "prune.exclude=['2']", "seeds=[0]", "axes={}", stop)
    assert {row["prunable"] for row in table(tmp_path)} == {480}
    assert {row["stopped_by"] for row in table(tmp_path) if row["control"] == "ticket"} == {
        "mask-difference"
    }


def test_arms_may_differ_in_what_they_exclude(run_inline, table, tmp_path):
    run_inline(tmp_path, "seeds=[0]", "axes={prune.exclude: [[], ['0'], ['2.*']]}", "controls=[]")
    prunable = {row["arm_label"]: row["prunable"] for row in table(tmp_path)}
    assert sorted(prunable.values()) == [120, 480, 600]


def test_a_pattern_that_excludes_nothing_starts_nothing(run_inline, tmp_path):
    with pytest.raises(UsageError) as refused:
        run_inline(tmp_path, "prune.exclude=['2.wieght']", "axes={}")
    assert str(refused.value) == (
        "tiny: prune.exclude: '2.wieght' fits no parameter of the network. Did you mean "
        "'2.weight'?"
    )
    assert not list(tmp_path.rglob("record.json"))
