"""Scopes keep exact counts, nest, and allot what they say, against a plain-Python reference."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from raylottery.pruning import SCOPES, Masks
from raylottery.pruning.scopes import without_lowest
from raylottery.sizes.counts import erk_counts


quick = settings(deadline=None, max_examples=60)

shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 8)),
        st.tuples(st.integers(1, 8), st.integers(1, 8)),
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=4,
)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31 - 1)


@st.composite
def pools(draw: st.DrawFn, values: int = 4) -> tuple[dict[str, torch.Tensor], Masks]:
    """Scores of few distinct values, zero among them, so that ties abound; any density."""
    generator = torch.Generator().manual_seed(draw(seeds))
    density = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    scores, masks = {}, {}
    for index, shape in enumerate(draw(shapes)):
        scores[f"l{index}"] = torch.randint(0, values, shape, generator=generator).float()
        masks[f"l{index}"] = torch.rand(shape, generator=generator) < density
    return scores, Masks(masks)


def lowest(entries: list[tuple[float, int]], num: int) -> set[int]:
    """Positions of the `num` lowest (score, position) pairs."""
    return {position for _, position in sorted(entries)[:num]}


def survivors(scores: torch.Tensor, mask: torch.Tensor, start: int = 0) -> list[tuple[float, int]]:
    pairs = zip(scores.flatten().tolist(), mask.flatten().tolist(), strict=True)
    return [(score, start + i) for i, (score, alive) in enumerate(pairs) if alive]


def positions(mask: torch.Tensor, start: int = 0) -> set[int]:
    return {start + i for i, alive in enumerate(mask.flatten().tolist()) if alive}


@settings(deadline=None, max_examples=300)
@given(
    shape=st.sampled_from([(1,), (17,), (5, 7), (4, 3, 2, 2), (40, 30)]),
    values=st.sampled_from([1, 2, 3, 50, 10**6]),
    density=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    share=st.floats(0, 1),
    seed=seeds,
)
def test_the_lowest_are_those_that_a_stable_sort_puts_first(shape, values, density, share, seed):
    """Any number of them, from none to all, among scores that are tied, infinite or negative."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(0, values, shape, generator=generator).float() - values // 2
    score[score == score.max()] = torch.inf
    mask = torch.rand(shape, generator=generator) < density
    count = round(share * int(mask.sum()))
    before = mask.clone()
    pruned = without_lowest(score, mask, count)
    expected = mask.flatten().clone()
    survivors = expected.nonzero().squeeze(1)
    expected[survivors[score.flatten()[survivors].argsort(stable=True)[:count]]] = False
    assert torch.equal(pruned, expected.reshape(shape))
    assert torch.equal(mask, before), "what is given is left alone"
    assert pruned.data_ptr() != mask.data_ptr()


@quick
@given(pools(), fractions)
def test_global_prunes_the_lowest_of_all_survivors_ties_by_position(pool, fraction):
    """Thresholds miss the count: peers prune one too many, or every tied entry, or none."""
    scores, masks = pool
    pruned = SCOPES["global"](scores, masks, fraction, {})
    entries, kept, start = [], set(), 0
    for name, mask in masks.items():
        entries += survivors(scores[name], mask, start)
        kept |= positions(pruned[name], start)
        start += mask.numel()
    gone = lowest(entries, round(fraction * masks.kept))
    assert kept == {position for _, position in entries} - gone


@quick
@given(pools(), fractions, st.one_of(st.just(0.0), fractions))
def test_layerwise_prunes_the_lowest_of_each_layer_at_its_own_rate_if_it_has_one(
    pool, fraction, rate
):
    scores, masks = pool
    last = list(masks)[-1]
    pruned = SCOPES["layerwise"](scores, masks, fraction, {last: rate})
    for name, mask in masks.items():
        entries = survivors(scores[name], mask)
        its_rate = rate if name == last else fraction
        gone = lowest(entries, round(its_rate * len(entries)))
        assert positions(pruned[name]) == {position for _, position in entries} - gone


@quick
@given(pools(), fractions)
def test_erk_prunes_the_lowest_of_each_layer_down_to_its_share(pool, fraction):
    scores, masks = pool
    pruned = SCOPES["erk"](scores, masks, fraction, {})
    assert pruned.kept == masks.kept - round(fraction * masks.kept)
    for name, mask in masks.items():
        entries = survivors(scores[name], mask)
        gone = lowest(entries, len(entries) - int(pruned[name].sum()))
        assert positions(pruned[name]) == {position for _, position in entries} - gone


@pytest.mark.parametrize("scope", SCOPES)
@quick
@given(pool=pools(values=1000), fraction=fractions, seed=seeds)
def test_masks_stay_nested_with_exact_counts_over_rounds(scope, pool, fraction, seed):
    """A peer recomputed each round's mask from all weights, so that pruned ones came back."""
    _, masks = pool
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        scores = {n: torch.rand(m.shape, generator=generator) for n, m in masks.items()}
        before, counts = masks, {n: int(m.sum()) for n, m in masks.items()}
        masks = SCOPES[scope](scores, before, fraction, {})
        assert masks.nested_in(before)
        if scope == "layerwise":
            assert {n: int(m.sum()) for n, m in masks.items()} == {
                n: kept - round(fraction * kept) for n, kept in counts.items()
            }
        else:
            assert masks.kept == before.kept - round(fraction * before.kept)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_input_masks_are_left_alone(scope):
    masks = Masks({"a": torch.ones(3, 3, dtype=torch.bool)})
    SCOPES[scope]({"a": torch.rand(3, 3)}, masks, 0.5, {})
    assert masks.kept == 9


@pytest.mark.parametrize("scope", SCOPES)
def test_a_layer_of_zeros_loses_exactly_its_count(scope):
    """Dead units tie massively at zero: threshold code prunes all of them or none."""
    masks = Masks({"a": torch.ones(5, 10, dtype=torch.bool)})
    pruned = SCOPES[scope]({"a": torch.zeros(5, 10)}, masks, 0.3, {})
    assert pruned["a"].flatten().tolist() == [False] * 15 + [True] * 35


@pytest.mark.parametrize("scope", SCOPES)
def test_survivors_that_are_zero_are_survivors(scope):
    """Taking `w != 0` for the mask prunes a kept zero for free, and loses count."""
    masks = Masks({"a": torch.tensor([[False, True, True, True, True, False]])})
    scores = {"a": torch.tensor([[0.0, 0.0, 3.0, 0.0, 2.0, 9.0]])}
    pruned = SCOPES[scope](scores, masks, 0.25, {})
    assert pruned["a"].tolist() == [[False, False, True, True, True, False]]


@pytest.mark.parametrize("scope", ["layerwise", "global"])
@quick
@given(seed=seeds, fraction=st.sampled_from([0.1, 0.2, 0.35, 0.5]), rounds=st.integers(1, 4))
def test_layerwise_and_global_equal_torch_prune_without_ties(scope, seed, fraction, rounds):
    """With one rate for all layers, as torch has no other."""
    generator = torch.Generator().manual_seed(seed)
    layers = {"conv": nn.Conv2d(2, 5, 3), "fc": nn.Linear(45, 7), "out": nn.Linear(7, 3)}
    sizes = [layer.weight.numel() for layer in layers.values()]
    distinct = torch.randperm(sum(sizes), generator=generator).float() + 1
    signs = 1 - 2 * torch.randint(0, 2, distinct.shape, generator=generator)
    for layer, values in zip(layers.values(), (distinct * signs).split(sizes), strict=True):
        layer.weight.data = values.reshape(layer.weight.shape).clone()
    scores = {name: layer.weight.detach().abs() for name, layer in layers.items()}
    masks = Masks.dense(scores, scores)
    for _ in range(rounds):
        masks = SCOPES[scope](scores, masks, fraction, {})
        if scope == "global":
            pairs = [(layer, "weight") for layer in layers.values()]
            torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=fraction)
        else:
            for layer in layers.values():
                torch_prune.l1_unstructured(layer, "weight", amount=fraction)
    for name, layer in layers.items():
        assert torch.equal(layer.get_buffer("weight_mask").bool(), masks[name])


@settings(deadline=None, max_examples=200)
@given(pools(), fractions)
def test_erk_sums_to_the_target_and_densities_stay_between_0_and_1(pool, fraction):
    """Peers clamp, or let the density of a layer leave [0, 1] at extreme sparsity."""
    _, masks = pool
    layers = {name: tuple(mask.shape) for name, mask in masks.items()}
    alive = {name: int(mask.sum()) for name, mask in masks.items()}
    target = masks.kept - round(fraction * masks.kept)
    counts = erk_counts(layers, alive, target)
    assert sum(counts.values()) == target
    assert all(0 <= counts[name] <= alive[name] for name in layers)
    unsaturated = [name for name in layers if counts[name] < alive[name]]
    # Open layers share one constant to within the rounding; full ones would have been given more.
    if unsaturated:
        low = max(Fraction(counts[name] - 1, sum(layers[name])) for name in unsaturated)
        high = min(Fraction(counts[name] + 1, sum(layers[name])) for name in unsaturated)
        assert low < high
        for name in set(layers) - set(unsaturated):
            assert Fraction(alive[name] - 1, sum(layers[name])) < high
