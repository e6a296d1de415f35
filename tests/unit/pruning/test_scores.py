"""What each score looks at, and what it leaves alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.errors import NothingToPrune, TrainingError
from raylottery.pruning import SCORES, Masks, prune
from raylottery.pruning.scores import STEPS, Evidence
from raylottery.sizes.prunable import Prunable
from raylottery.spec.sections import AT_INITIALISATION, FROM_BEGINNING
from raylottery.spec.sweep import Prune
from tests.unit.pruning.beginnings import Beginning


def chain(widths: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    """Weights of linear layers, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{i}.weight": torch.randn((wide, before), generator=generator)
        for i, (before, wide) in enumerate(pairwise(widths))
    }


def targets(weights: dict[str, torch.Tensor]) -> Prunable:
    names = tuple(weights)
    return Prunable(names=names, output=names[-1:], convolutions=())


def scored(score: str, trained: float, initial: float, gradient: float = 1.0) -> float:
    """The score of one entry."""
    one = {"w": torch.tensor([[trained]])}
    beginning = Beginning({"w": torch.tensor([[initial]])}, {"w": torch.tensor([[gradient]])})
    masks = Masks.dense(one, one)
    seen = Evidence(trained=one, masks=masks, seed=0, untrained=beginning)
    return SCORES[score](seen)["w"].item()


@pytest.mark.parametrize(
    ("score", "trained", "initial", "worth"),
    [
        ("magnitude", -3.0, 1.0, 3.0),
        ("initial-magnitude", 5.0, -2.0, 2.0),
        ("magnitude-increase", -3.0, 1.0, 2.0),
        ("magnitude-increase", 1.0, -3.0, -2.0),
        ("large-final-same-sign", -3.0, -1.0, 3.0),
        ("large-final-same-sign", -3.0, 1.0, 0.0),
        ("large-final-same-sign", 3.0, 0.0, 0.0),
        ("synflow", 9.0, -2.0, 2.0),
    ],
)
def test_the_score_of_one_weight(score, trained, initial, worth):
    assert scored(score, trained, initial) == worth


def test_snip_is_what_the_loss_would_lose_with_a_weight():
    assert scored("snip", 9.0, -2.0, gradient=0.25) == 0.5
    assert scored("snip", 9.0, 2.0, gradient=-0.25) == 0.5


def test_grasp_is_what_the_gradient_would_lose_with_a_weight():
    """One without which it would grow is worth less than nothing."""
    assert scored("grasp", 9.0, -2.0, gradient=-0.25) == 0.5
    assert scored("grasp", 9.0, 2.0, gradient=-0.25) == -0.5


@pytest.mark.parametrize("score", SCORES)
def test_scores_say_what_they_look_at(score):
    """By these a sweep is refused that asks for a mask rule, or an own lineage, in vain."""
    weights = chain((6, 5, 4), seed=0)
    how = Prune(score=score, fraction=0.4, rounds=1)
    masks = Masks.dense(weights, weights)
    beginnings = [chain((6, 5, 4), seed=1), chain((6, 5, 4), seed=2)]
    one, other = (
        prune(weights, masks, how, targets(weights), 0, Beginning(begun, chain((6, 5, 4), 9)))
        for begun in beginnings
    )
    assert (one != other) == (score in FROM_BEGINNING)
    trained = chain((6, 5, 4), seed=3)
    beginning = Beginning(beginnings[0], chain((6, 5, 4), 9))
    after = prune(trained, masks, how, targets(weights), 0, beginning)
    assert (after == one) == (score in (*AT_INITIALISATION, "random"))


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_of_one_batch_come_the_masks_of_one_ranking_at_every_density(score):
    weights = chain((8, 7, 6), seed=4)
    beginning = Beginning(weights, chain((8, 7, 6), 5))
    masks = Masks.dense(weights, weights)
    for _ in range(3):
        how = Prune(score=score, fraction=0.5, rounds=3)
        masks = prune(weights, masks, how, targets(weights), 0, beginning)
    worth = {n: w * beginning.gradients[n] for n, w in weights.items()}
    worth = {n: w.abs() if score == "snip" else w for n, w in worth.items()}
    least_kept = min(worth[name][mask].min() for name, mask in masks.items())
    most_gone = max(worth[name][~mask].max() for name, mask in masks.items())
    assert least_kept > most_gone


@settings(deadline=None, max_examples=30)
@given(
    widths=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    scope=st.sampled_from(["global", "layerwise", "erk"]),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_many_steps_leave_as_many_as_one(widths, scope, fraction, seed):
    weights = chain((7, *widths, 5), seed)
    masks = Masks.dense(weights, weights)

    def left(score):
        how = Prune(score=score, scope=scope, fraction=fraction, rounds=1)
        try:
            return prune(weights, masks, how, targets(weights), 0, Beginning(weights))
        except NothingToPrune:
            return masks

    one, many = left("magnitude"), left("synflow")
    assert many.kept == one.kept
    if scope == "layerwise":
        assert {n: int(m.sum()) for n, m in many.items()} == {
            n: int(m.sum()) for n, m in one.items()
        }


def test_the_flow_is_looked_at_again_as_the_network_is_thinned():
    weights = chain((20, 20, 20), seed=6)
    beginning = Beginning(weights)
    how = Prune(score="synflow", fraction=0.9, rounds=1)
    masks = prune(weights, Masks.dense(weights, weights), how, targets(weights), 0, beginning)
    assert beginning.asked == sorted(beginning.asked, reverse=True)
    assert beginning.asked[0] == 800
    assert 50 < len(beginning.asked) <= STEPS["synflow"]
    assert masks.kept == 80


def test_the_flow_empties_no_layer_where_one_ranking_would(monkeypatch):
    weights = chain((30, 2, 30, 30), seed=8)
    how = Prune(score="synflow", fraction=0.95, rounds=1)
    dense = Masks.dense(weights, weights)
    masks = prune(weights, dense, how, targets(weights), 0, Beginning(weights))
    assert all(mask.any() for mask in masks.values())
    monkeypatch.setitem(STEPS, "synflow", 1)
    at_once = prune(weights, dense, how, targets(weights), 0, Beginning(weights))
    assert not all(mask.any() for mask in at_once.values())


def test_scores_that_overflow_are_refused():
    weights = {"0.weight": torch.full((2, 2), 1e200, dtype=torch.float64)}
    weights |= {"1.weight": torch.full((2, 2), 1e200, dtype=torch.float64)}
    how = Prune(score="synflow", fraction=0.5, rounds=1)
    with pytest.raises(TrainingError, match=r"synflow scores of '0\.weight' are not all finite"):
        prune(weights, Masks.dense(weights, weights), how, targets(weights), 0, Beginning(weights))
