"""One update is the update that torch makes in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from raylottery.kernel import Layer, Network, Rule, adam, optimizers, sgd
from raylottery.kernel.plan import OUTPUTS
from tests.unit.kernel.samples import PATHS, Reference, gradients, layers, network


RULES = {
    "adam": adam(clip=10.0),
    "adam-clipped": adam(clip=0.01),
    "adam-decay": adam(decay=0.1, decay_biases=False),
    "adamw": adam(decay=0.1, decoupled=True, epsilon=1e-3),
    "sgd": sgd(),
    "sgd-momentum-decay": sgd(momentum=0.9, decay=0.05, clip=0.1),
    "sgd-nesterov": sgd(momentum=0.9, nesterov=True, decay=0.05, decay_biases=False),
}
LR = 0.01
widths = st.integers(1, 70)
fields = {
    "density": st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.7, 1.0]),
    "seed": st.integers(0, 2**32 - 1),
    "bias_density": st.sampled_from([1.0, 1.0, 0.5]),
}
networks = st.fixed_dictionaries({"sizes": st.lists(widths, min_size=2, max_size=5), **fields})
adding = st.fixed_dictionaries(
    {
        "sizes": st.builds(
            lambda inputs, hidden, depth, outputs: [inputs, *[hidden] * depth, outputs],
            *(widths, widths, st.integers(2, 4), widths),
        ),
        "residual": st.just(True),
        **fields,
    }
)


def largest(*tensors: torch.Tensor | None) -> float:
    return max(float(tensor.detach().abs().max()) for tensor in tensors if tensor is not None)


def close(ours: np.ndarray, theirs: torch.Tensor | None, scale: float) -> bool:
    assert theirs is not None
    return float(np.abs(ours - theirs.detach().numpy()).max(initial=0)) <= 1e-5 * scale


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=80, deadline=None)
@given(drawn=networks | adding, batch=st.integers(1, 140), rule=st.sampled_from([*RULES.values()]))
def test_an_update_is_torchs_in_double_precision(
    path: str, drawn: dict, batch: int, rule: Rule
) -> None:
    whole = layers(**drawn)
    rng = np.random.default_rng(drawn["seed"])
    x = rng.normal(size=(batch, drawn["sizes"][0])).astype(np.float32)
    deltas = (rng.normal(size=(batch, drawn["sizes"][-1])) / batch).astype(np.float32)
    net, theirs = network(whole, path), Reference(whole, rule, LR)
    # Without moments, Adam's first step is the sign of a gradient, however small and uncertain.
    for place in net.packed.weights + net.packed.biases:
        found = place.flat[place.flat < net.packed.ends[1]]  # the dropped never had any
        net.first[found] = rng.normal(size=found.shape) / 50
        net.second[found] = rng.uniform(1e-4, 1e-2, size=found.shape)
    net.updates = 10
    theirs.remember([net.layers(net.first), net.layers(net.second)], net.updates)

    outputs = gradients(net, net.room(batch), x, deltas)
    expected = theirs.backward(x, deltas)
    assume(theirs.margin > 1e-5)  # near its kink, a neuron may be on in one and off in the other
    assert close(outputs, expected, 1 + largest(expected))
    # A gradient is a sum of terms as large as these, which may happen to cancel.
    terms = float(np.abs(deltas).max())
    scale = max(terms, largest(*(parameter.grad for parameter in theirs.parameters)))
    for grad, parameter in zip(sum(net.layers(net.grads), ()), theirs.parameters, strict=True):
        assert close(grad, parameter.grad, scale)

    before = [parameter.detach().clone() for parameter in theirs.parameters]
    net.step(rule, LR)
    theirs.step()
    pairs = list(zip(before, theirs.parameters, strict=True))
    moved = largest(*(new - old for old, new in pairs))
    for ours, (old, new) in zip(sum(net.layers(), ()), pairs, strict=True):
        rounding = float(np.finfo(np.float32).eps) / 1e-5 * largest(new)
        assert close(ours - old.numpy(), new - old, moved + rounding)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_updates_from_the_start_go_where_torchs_go(path: str, rule: Rule) -> None:
    whole = layers((6, 40, 30, 3), 0.4, seed=1)
    net, theirs = network(whole, path), Reference(whole, rule, LR)
    room = net.room(50)
    rng = np.random.default_rng(2)
    for _ in range(5):
        x = rng.normal(size=(50, 6)).astype(np.float32)
        deltas = (rng.normal(size=(50, 3)) / 50).astype(np.float32)
        gradients(net, room, x, deltas)
        net.step(rule, LR)
        theirs.backward(x, deltas)
        theirs.step()
    for ours, parameter in zip(sum(net.layers(), ()), theirs.parameters, strict=True):
        assert close(ours, parameter, 10 * largest(parameter))


@pytest.mark.parametrize("path", PATHS)
def test_the_dropped_decay_as_the_rest_of_a_masked_network_does(path: str) -> None:
    """Their magnitudes count when the next mask is drawn."""
    whole = layers((3, 8, 2), 1.0, seed=3)
    mask = np.ones((2, 8), bool)
    mask[:, 2:5] = False
    whole[1] = Layer(whole[1].weight, whole[1].bias, mask)
    for rule in (adam(decay=0.1), sgd(decay=0.1, momentum=0.5), adam()):
        net, theirs = network(whole, path), Reference(whole, rule, LR)
        assert net.packed.plan[0, OUTPUTS] == 5
        room = net.room(4)
        x, deltas = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
        for _ in range(3):
            gradients(net, room, x, deltas)
            net.step(rule, LR)
            theirs.backward(x, deltas)
            theirs.step()
        weight, bias = net.layers()[0]
        assert close(weight, theirs.parameters[0], 1)
        assert close(bias, theirs.parameters[1], 1)
        moved = not np.array_equal(weight[2:5], whole[0].weight[2:5])
        assert moved == (rule.decay > 0)


def test_the_norm_that_clips_is_that_of_the_survivors() -> None:
    whole = layers((5, 30, 4), 0.3, seed=4)
    rule = adam(clip=1e-3)
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    deltas = np.ones((9, 4), np.float32)
    theirs = Reference(whole, rule, LR)
    theirs.backward(x, deltas)
    found = [p.grad for p in theirs.parameters if p.grad is not None]
    expected = nn.utils.get_total_norm(found).item()
    for path in PATHS:
        net = network(whole, path)
        gradients(net, net.room(9), x, deltas)
        assert net.step(rule, LR) == pytest.approx(expected, rel=1e-5)


def test_a_target_is_mixed_or_copied() -> None:
    net, other = (Network.of(layers((4, 20, 2), 0.5, seed)) for seed in (5, 5))
    other.values[:] += 1
    before = net.values.copy()
    optimizers.mix(net.values, other.values, 0.25)
    np.testing.assert_allclose(net.values, before + 0.25 * (other.values - before), rtol=1e-6)
    optimizers.mix(net.values, other.values, 1.0)
    np.testing.assert_array_equal(net.values, other.values)


@pytest.mark.parametrize("path", PATHS)
def test_whole_arrays_are_filled_in_again(path: str) -> None:
    """Survivors alone: what is pruned of the arrays stays out."""
    whole = layers((6, 40, 30, 3), 0.4, seed=6, bias_density=0.7)
    net = network(whole, path)
    masks = [mask for layer in whole for mask in (layer.kept(), layer.kept_biases())]
    given = [array for layer in whole for array in (layer.weight, layer.bias)]
    net.fill(net.first, [(layer.weight + 1, layer.bias + 1) for layer in whole])
    for found, array, mask in zip(sum(net.layers(net.first), ()), given, masks, strict=True):
        np.testing.assert_array_equal(found, np.where(mask, array + 1, 0))
    assert net.strays() == 0
    net.values[net.empty[:2]] = np.nan, 1e-30
    assert net.strays() == 2
