"""Tickets that are pruned and measured without training: the curve of pruning in one shot."""

from __future__ import annotations

import pytest
import torch

from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.tickets import unpack
from raylottery.tickets import harvest
from tests.e2e.conftest import TINY


MEASURED = "rewind={weights: final, retrain: 0it}"
SCOPES = "axes.prune.scope=[global, layerwise, erk]"
PLAIN = ("controls=[]", "prune.output=full")
ROUNDS = (*PLAIN, SCOPES, MEASURED, "prune.rounds=3", "name=rounds")
ONCE = (*PLAIN, SCOPES, MEASURED, "prune.rounds=1", "prune.fraction=0.875", "name=once")


def key(row: dict) -> tuple:
    return row["scope"], row["seed"]


def test_rounds_without_training_are_pruning_in_one_shot(run_inline, table, tmp_path):
    """To the bit: 1 - 0.5 ** 3 = 0.875, of counts that can be halved three times."""
    assert run_inline(tmp_path, *ROUNDS).exit_code == 0
    once = run_inline(tmp_path, *ONCE)
    assert len(once.ledger.trained) == 3 * 2, "the dense rounds are those of the sweep before"
    nested = {key(row): row for row in table(tmp_path, sweep="rounds") if row["round"] == 3}
    single = {key(row): row for row in table(tmp_path, sweep="once") if row["round"] == 1}
    store = Store.open(str(tmp_path))
    assert nested.keys() == single.keys()
    for place, row in nested.items():
        assert row["kept"] == 75
        other = single[place]
        (weights, masks), (weights_at_once, masks_at_once) = (
            harvest(one["key"], store) for one in (row, other)
        )
        assert masks == masks_at_once
        for name, weight in weights.items():
            assert torch.equal(weight, weights_at_once[name]), name
        for column in ("score", "score_at_stop", "train_score", "loss", "score_best", "steps"):
            assert row[column] == other[column], column


def test_what_is_not_trained_is_what_the_dense_training_left_under_the_mask(
    run_inline, table, tmp_path
):
    run_inline(tmp_path, *ROUNDS)
    store = Store.open(str(tmp_path))
    for lineage in lineages(parse_sweep(TINY, overrides=ROUNDS)):
        dense, _ = harvest(lineage.rounds[0].key, store)
        for round in lineage.rounds[1:]:
            weights, masks = harvest(round.key, store)
            for name, weight in weights.items():
                kept = masks.get(name, torch.ones_like(weight, dtype=torch.bool))
                assert torch.equal(weight, dense[name] * kept), name
    rows = table(tmp_path, sweep="rounds")
    assert {row["steps"] for row in rows if row["round"]} == {0}
    assert {row["steps"] for row in rows if not row["round"]} == {70}
    scores = {row["round"]: row["score"] for row in rows if key(row) == ("global", 0)}
    assert scores[3] < scores[0], "or nothing is shown here"


def test_a_round_that_is_not_trained_has_one_point_of_each_measurement(
    run_inline, table, tmp_path
):
    run_inline(tmp_path, *PLAIN, MEASURED, "axes={}", "seeds=[0]")
    points = [point for point in table(tmp_path, "curves") if point["round"]]
    assert [(p["round"], p["step"], p["split"], p["metric"]) for p in points] == [
        (index, 70, *measured)
        for index in (1, 2)
        for measured in (("train", "loss"), ("valid", "loss"), ("valid", "accuracy"))
    ]
    rows = [row for row in table(tmp_path) if row["round"]]
    values = {(p["round"], p["split"], p["metric"]): p["value"] for p in points}
    for row in rows:
        assert row["loss"] == values[row["round"], "train", "loss"]
        assert row["score_best"] == values[row["round"], "valid", "accuracy"]
        assert row["score_at_stop"] == row["score"]
        assert (row["min_loss_step"], row["stop_step"], row["revived"]) == (70, None, 0)


def test_the_first_weights_under_the_mask_of_the_trained_ones_are_measured_too(
    run_inline, tmp_path
):
    """A supermask: what the mask alone is worth."""
    rewind = "rewind={weights: init, clock: final, retrain: 0it}"
    changes = (*PLAIN, rewind, "axes={}", "seeds=[0]", "prune.rounds=1")
    run_inline(tmp_path, *changes)
    store = Store.open(str(tmp_path))
    [lineage] = lineages(parse_sweep(TINY, overrides=changes))
    dense, ticket = lineage.rounds
    first = unpack(store.snapshot(dense.key, 0) or b"")[0]["weights"]
    trained, _ = harvest(dense.key, store)
    weights, masks = harvest(ticket.key, store)
    for name, weight in weights.items():
        mask = masks.get(name)
        assert torch.equal(weight, first[name] if mask is None else first[name] * mask), name
    cut = min(trained[name].abs()[mask].min() for name, mask in masks.items())
    for name, mask in masks.items():
        assert (trained[name].abs()[~mask] <= cut).all(), "the mask is of the trained weights"


@pytest.mark.parametrize(
    ("control", "steps"), [("random-ticket", 70), ("reinit", 70), ("permuted-both", 0)]
)
def test_controls_with_fresh_weights_are_trained_all_the_same(
    run_inline, table, tmp_path, control, steps
):
    run_inline(tmp_path, MEASURED, f"controls=[{control}]", "axes={}", "seeds=[0]")
    rows = [row for row in table(tmp_path) if row["control"] == control]
    assert [row["steps"] for row in rows] == [steps] * 2
