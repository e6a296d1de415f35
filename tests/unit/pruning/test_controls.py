"""Controls change what they say and nothing else: one invariant a control, over random tickets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.pruning import Masks, alter, apply_mask
from raylottery.spec.controls import CONTROLS


Weights = dict[str, torch.Tensor]

SIGNED = ["sign-constant", "sign-kept-reinit"]
PRUNED_AT_RANDOM = ["random-pruned", "erk-random"]
UNALTERED = [*PRUNED_AT_RANDOM, "replicate", "shuffled-pixels", "shuffled-labels"]
"""What differs from the ticket was done before, or is done to its training."""
SAME_MASK = ["reinit", "permuted-weights", *SIGNED, *UNALTERED]
PERMUTED_MASK = ["permuted-mask", "permuted-both", "random-ticket"]
FRESH = ["reinit", "random-ticket", "random-global"]
OWN_VALUES = ["permuted-weights", "permuted-mask", "permuted-both", "sign-constant"]
ALTERED = [name for name in CONTROLS if name != "small-dense"]
"""Controls of the network's own shape: the other has nothing of the ticket but its size."""

quick = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Case:
    weights: Weights
    masks: Masks
    fresh: Weights
    seed: int

    def alter(self, control: str) -> tuple[Weights, Masks]:
        return alter(control, self.weights, self.masks, self.fresh, self.seed)


def network(shapes: list[tuple[int, ...]], generator: torch.Generator) -> Weights:
    """Weights, biases and batch-norm buffers of layers of the given shapes."""
    weights = {}
    for index, shape in enumerate(shapes):
        weights[f"{index}.weight"] = torch.randn(shape, generator=generator)
        weights[f"{index}.bias"] = torch.randn(shape[0], generator=generator)
        weights[f"{index}.running_var"] = torch.rand(shape[0], generator=generator)
        weights[f"{index}.num_batches_tracked"] = torch.randint(0, 999, (), generator=generator)
    return weights


def case(shapes: list[tuple[int, ...]], densities: list[float], seed: int) -> Case:
    generator = torch.Generator().manual_seed(seed)
    masks = {
        f"{index}.weight": torch.rand(shape, generator=generator) < density
        for index, (shape, density) in enumerate(zip(shapes, densities, strict=True))
    }
    weights, fresh = network(shapes, generator), network(shapes, generator)
    return Case(weights=weights, masks=Masks(masks), fresh=fresh, seed=seed)


layers = st.tuples(
    st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    ),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
cases = st.builds(
    lambda layers, seed: case([s for s, _ in layers], [d for _, d in layers], seed),
    st.lists(layers, min_size=1, max_size=4),
    st.integers(0, 2**63 - 1),
)

large = case([(40, 30), (8, 4, 3, 3), (10, 40)], [0.5, 0.3, 0.2], seed=11)


def counts(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def sorted_values(weights: Weights, masks: Masks) -> dict[str, list[float]]:
    return {name: sorted(weights[name][mask].tolist()) for name, mask in masks.items()}


def equal(one: Weights, other: Weights) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_every_control_is_tested_here():
    assert set(ALTERED) == {*SAME_MASK, *PERMUTED_MASK, "random-global"}


@pytest.mark.parametrize("control", ALTERED)
@quick
@given(case=cases)
def test_controls_are_tickets(control, case):
    """Pruned entries at zero, the same tensors in the same order, and as many kept as before."""
    weights, masks = case.alter(control)
    assert equal(weights, apply_mask(weights, masks))
    assert list(weights) == list(case.weights)
    assert tuple(masks) == tuple(case.masks)
    assert masks.kept == case.masks.kept
    assert masks.prunable == case.masks.prunable


@pytest.mark.parametrize("control", ALTERED)
@quick
@given(case=cases)
def test_controls_are_pure(control, case):
    """Equal arguments give equal controls; arguments and global random state are left alone."""
    spare = {name: value.clone() for name, value in case.weights.items()}
    spare_fresh = {name: value.clone() for name, value in case.fresh.items()}
    spare_masks = Masks(case.masks)
    state = torch.get_rng_state()
    one, other = case.alter(control), case.alter(control)
    assert equal(one[0], other[0])
    assert one[1] == other[1]
    for value in one[0].values():
        value.zero_()
    assert equal(case.weights, spare)
    assert equal(case.fresh, spare_fresh)
    assert case.masks == spare_masks
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("control", FRESH)
@quick
@given(case=cases)
def test_fresh_weights_come_whole_from_another_initialisation(control, case):
    """Biases, norms and buffers too: a reinit that keeps trained statistics is no reinit."""
    weights, masks = case.alter(control)
    assert equal(weights, apply_mask(case.fresh, masks))


@pytest.mark.parametrize("control", OWN_VALUES)
@quick
@given(case=cases)
def test_permuting_leaves_biases_norms_and_buffers_at_the_snapshot(control, case):
    weights, _ = case.alter(control)
    for name in set(case.weights) - set(case.masks):
        assert torch.equal(weights[name], case.weights[name])


@pytest.mark.parametrize("control", SAME_MASK)
@quick
@given(case=cases)
def test_controls_of_the_weights_keep_the_mask(control, case):
    assert case.alter(control)[1] == case.masks


@pytest.mark.parametrize("control", UNALTERED)
@quick
@given(case=cases)
def test_the_ticket_itself_stays_to_the_bit(control, case):
    weights, masks = case.alter(control)
    assert masks == case.masks
    expected = apply_mask(case.weights, case.masks)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())


@pytest.mark.parametrize("control", PERMUTED_MASK)
@quick
@given(case=cases)
def test_permuted_masks_keep_each_layers_count(control, case):
    """A peer shuffled masks in a way that changed the layers' densities."""
    assert counts(case.alter(control)[1]) == counts(case.masks)


@pytest.mark.parametrize("control", ["permuted-weights", "permuted-both"])
@quick
@given(case=cases)
def test_permuted_weights_keep_each_layers_surviving_values(control, case):
    weights, masks = case.alter(control)
    assert sorted_values(weights, masks) == sorted_values(case.weights, case.masks)


@quick
@given(case=cases)
def test_permuted_mask_leaves_weights_in_their_place(case):
    weights, masks = case.alter("permuted-mask")
    assert equal(weights, apply_mask(case.weights, masks))


@pytest.mark.parametrize("control", SIGNED)
@quick
@given(case=cases)
def test_signs_are_the_snapshots(control, case):
    weights, masks = case.alter(control)
    for name, mask in masks.items():
        assert torch.equal(weights[name][mask].sign(), case.weights[name][mask].sign())


@quick
@given(case=cases)
def test_sign_constant_has_one_size_in_a_layer_that_of_all_its_weights(case):
    weights, masks = case.alter("sign-constant")
    for name, mask in masks.items():
        size = case.weights[name].double().square().mean().sqrt().float()
        assert torch.equal(weights[name][mask].abs(), size.expand(int(mask.sum())))


@quick
@given(case=cases)
def test_sign_kept_reinit_has_the_sizes_of_another_initialisation(case):
    """Biases, norms and buffers are another's too, as for reinit."""
    weights, masks = case.alter("sign-kept-reinit")
    fresh = apply_mask(case.fresh, masks)
    for name, value in weights.items():
        assert torch.equal(value.abs() if name in masks else value,
                           fresh[name].abs() if name in masks else fresh[name])  # fmt: skip


@pytest.mark.parametrize("control", SIGNED)
def test_sizes_of_weights_change_where_signs_are_kept(control):
    weights, masks = large.alter(control)
    for name, mask in masks.items():
        assert not (weights[name] == large.weights[name])[mask].any()


@pytest.mark.parametrize("control", PRUNED_AT_RANDOM)
@quick
@given(case=cases)
def test_what_was_pruned_at_random_is_the_snapshot_under_its_mask(control, case):
    weights, masks = case.alter(control)
    assert equal(weights, apply_mask(case.weights, masks))


def test_permuted_weights_move():
    """Large layers, so that chance cannot leave them as they were."""
    weights, masks = large.alter("permuted-weights")
    for name, mask in masks.items():
        same = (weights[name] == large.weights[name])[mask]
        assert int(same.sum()) < 0.1 * int(mask.sum())


@pytest.mark.parametrize("control", [*PERMUTED_MASK, "random-global"])
def test_permuted_masks_differ_from_the_tickets(control):
    """A peer's shuffle was a no-op, so that its control was the ticket itself."""
    masks = large.alter(control)[1]
    for name, mask in large.masks.items():
        density = float(mask.float().mean())
        overlap = int((masks[name] & mask).sum()) / int(masks[name].sum())
        assert abs(overlap - density) < 0.15


def test_random_global_keeps_only_the_total():
    masks = large.alter("random-global")[1]
    assert masks.kept == large.masks.kept
    assert counts(masks) != counts(large.masks)
    for mask in masks.values():
        assert abs(float(mask.float().mean()) - large.masks.density) < 0.1


@pytest.mark.parametrize("control", ["permuted-weights", *PERMUTED_MASK, "random-global"])
def test_another_seed_gives_another_draw(control):
    weights, _ = large.alter(control)
    again, _ = alter(control, large.weights, large.masks, large.fresh, large.seed + 1)
    assert not equal(weights, again)


def test_controls_that_permute_the_mask_share_it_for_a_seed():
    """So that permuted-mask, permuted-both and random-ticket differ in their weights alone."""
    one, two, three = (large.alter(control)[1] for control in PERMUTED_MASK)
    assert one == two == three


def test_an_unknown_control_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'random-ticket'"):
        large.alter("random-tickets")
