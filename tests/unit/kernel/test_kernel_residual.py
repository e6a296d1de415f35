"""Layers that add to what they are given: h + relu(W h + b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from raylottery.kernel import Layer, Network, adam, sgd
from raylottery.kernel.packing import reaching
from raylottery.kernel.plan import OUTPUTS
from tests.unit.kernel.samples import PATHS, Reference, gradients, layers, network


SIZES = (5, 40, 40, 40, 3)
BATCH = 70


def batch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    deltas = rng.normal(size=(BATCH, SIZES[-1])) / BATCH
    return rng.normal(size=(BATCH, SIZES[0])).astype(np.float32), deltas.astype(np.float32)


def without(layer: Layer, *, neurons: Sequence[int] = (), inputs: Sequence[int] = ()) -> Layer:
    """A layer that has lost the weights of some neurons, or of some inputs."""
    mask = layer.kept().copy()
    mask[[*neurons]] = False
    mask[:, [*inputs]] = False
    return replace(layer, mask=mask)


def as_torch(whole: list[Layer], path: str) -> Network:
    """A network, once its outputs and gradients are shown to be torch's."""
    x, deltas = batch()
    net, theirs = network(whole, path), Reference(whole, sgd(), 0.01)
    outputs = gradients(net, net.room(BATCH), x, deltas)
    expected = theirs.backward(x, deltas).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    for found, parameter in zip(sum(net.layers(net.grads), ()), theirs.parameters, strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=1e-5, atol=1e-6)
    return net


@pytest.mark.parametrize("path", PATHS)
def test_a_neuron_that_nothing_weighs_reaches_the_output_through_the_sums(path: str) -> None:
    whole = layers(SIZES, 1.0, seed=1, residual=True)
    for at in (1, 2):
        whole[at] = without(whole[at], inputs=[7, 8])
    net = as_torch(whole, path)
    assert net.packed.plan[:, OUTPUTS].tolist() == [40, 40, 40, 3]
    weight, bias = net.layers(net.grads)[0]
    assert weight[7].any()
    assert bias[8]


@pytest.mark.parametrize("path", PATHS)
def test_a_neuron_without_inputs_passes_on_what_it_adds_to(path: str) -> None:
    whole = layers(SIZES, 1.0, seed=2, residual=True)
    whole[1] = without(whole[1], neurons=[4, 30])
    whole[1].bias[[4, 30]] = 0.5, -0.5
    net = as_torch(whole, path)
    bias = net.layers(net.grads)[1][1]
    assert bias[4], "it is a constant, which is trained"
    assert not bias[30], "or it is switched off"
    assert net.layers(net.grads)[0][0][[4, 30]].any(axis=1).all()


@pytest.mark.parametrize("path", PATHS)
def test_what_reaches_nothing_is_dropped_layer_by_layer(path: str) -> None:
    """A sum is needed by the output, or by a later layer's weights or sums."""
    whole = layers(SIZES, 1.0, seed=3, residual=True)
    lost = [0, 11, 39]
    whole[3] = without(whole[3], inputs=lost)
    whole[2] = without(whole[2], inputs=lost[:2])
    whole[1] = without(whole[1], inputs=lost[:1])
    alive = reaching(whole)
    assert [sorted(set(range(40)) - set(found)) for found in alive[1:4]] == [[0], [0, 11], lost]
    for now, after in pairwise(alive[1:4]):
        np.testing.assert_array_equal(now[: len(after)], after)
    net = as_torch(whole, path)
    assert net.packed.plan[:, OUTPUTS].tolist() == [39, 38, 37, 3]


@pytest.mark.parametrize("path", PATHS)
def test_first_weights_that_are_all_pruned_leave_sums_of_constants(path: str) -> None:
    whole = layers(SIZES, 0.3, seed=4, residual=True)
    as_torch([without(whole[0], neurons=range(SIZES[1])), *whole[1:]], path)


@pytest.mark.parametrize("density", [1.0, 0.3, 0.05])
def test_forward_is_equal_to_the_bit_on_both_paths(density: float) -> None:
    whole = layers(SIZES, density, seed=5, residual=True)
    nets = [network(whole, path) for path in PATHS]
    dense, sparse = (gradients(net, net.room(BATCH), *batch()) for net in nets)
    np.testing.assert_array_equal(dense, sparse)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rule", [adam(decay=0.1), sgd(momentum=0.9)], ids=["adam", "sgd"])
def test_nothing_but_survivors_is_ever_anything_but_zero(path: str, rule) -> None:
    whole = layers(SIZES, 0.2, seed=6, residual=True, bias_density=0.5)
    net = network(whole, path)
    room = net.room(BATCH)
    for step in range(20):
        gradients(net, room, *batch(step))
        net.step(rule, 1e-2)
    places = [place.flat for place in net.packed.weights + net.packed.biases]
    rest = np.delete(np.arange(len(net.values)), np.concatenate(places))
    for flat in (net.values, net.first, net.second, net.grads):
        assert not flat[rest].view(np.uint32).any()
    for (weight, bias), layer in zip(net.layers(), whole, strict=True):
        for array, kept in ((weight, layer.kept()), (bias, layer.kept_biases())):
            assert np.count_nonzero(array) == np.count_nonzero(kept)


@pytest.mark.parametrize("path", PATHS)
def test_what_is_no_number_stays_visible(path: str) -> None:
    net = network(layers(SIZES, 0.5, seed=7, residual=True), path)
    x = np.full((2, SIZES[0]), np.nan, np.float32)
    assert np.isnan(gradients(net, net.room(2), x, np.zeros((2, 3), np.float32))).all()
