"""The dense and the sparse path are one network, to the bit where the order of sums allows."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.kernel import Layer, Network, Rule, adam, losses, sgd
from raylottery.kernel.packing import reaching
from raylottery.kernel.plan import DENSE, OUTPUTS, SPARSE
from tests.unit.kernel.samples import PATHS, called, gradients, layers, network


SIZES = (4, 60, 50, 3)


chosen_values = called(losses.chosen_values)


def trained(net: Network, updates: int, *, rule: Rule, seed: int = 0, batch: int = 64) -> Network:
    """Follows a fixed random function."""
    rng = np.random.default_rng(seed)
    room = net.room(batch)
    actions = np.zeros(batch, np.int64)
    weights, errors = np.ones(batch, np.float32), np.zeros(batch, np.float32)
    for _ in range(updates):
        x = rng.normal(size=(batch, SIZES[0])).astype(np.float32)
        actions[:] = rng.integers(0, SIZES[-1], batch)
        wanted = np.sin(x.sum(axis=1) + actions).astype(np.float32)
        room.inputs[:, :batch] = x.T
        net.forward(room)
        chosen_values(room.outputs, actions, wanted, weights, False, room.deltas, errors)
        net.backward(room)
        net.step(rule, 1e-3)
    return net


def arrays(net: Network) -> list[np.ndarray]:
    return [array for pair in net.layers() for array in pair]


@pytest.mark.parametrize("rule", [adam(clip=1.0), sgd(momentum=0.9)], ids=["adam", "sgd"])
@pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
def test_200_updates_agree(density: float, rule: Rule) -> None:
    whole = layers(SIZES, density, seed=1)
    dense, sparse = (trained(network(whole, path), 200, rule=rule) for path in PATHS)
    for one, other, layer in zip(dense.layers(), sparse.layers(), whole, strict=True):
        for a, b, start in zip(one, other, (layer.weight, layer.bias), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
            assert np.abs(a - start).max() > 1e-3  # both went somewhere


@given(
    density=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 140),
)
@settings(max_examples=30, deadline=None)
def test_forward_is_equal_to_the_bit(density: float, seed: int, batch: int) -> None:
    whole = layers(SIZES, density, seed)
    x = np.random.default_rng(seed).normal(size=(batch, 4)).astype(np.float32)
    deltas = np.zeros((batch, 3), np.float32)
    nets = [network(whole, path) for path in PATHS]
    dense, sparse = (gradients(net, net.room(batch), x, deltas) for net in nets)
    np.testing.assert_array_equal(dense, sparse)


@pytest.mark.parametrize("path", PATHS)
def test_pruned_entries_are_exactly_positive_zero(path: str) -> None:
    whole = [
        replace(layer, bias_mask=np.arange(len(layer.bias)) % 2 == 0)
        for layer in layers(SIZES, 0.2, seed=2)
    ]
    for rule in (adam(decay=0.1), adam(decay=0.1, decoupled=True), sgd(momentum=0.9, decay=0.1)):
        net = trained(network(whole, path), 30, rule=rule)
        for (weight, bias), layer in zip(net.layers(), whole, strict=True):
            for array, kept in ((weight, layer.kept()), (bias, layer.kept_biases())):
                assert not array[~kept].view(np.uint32).any()
                assert np.count_nonzero(array) == np.count_nonzero(kept)
        # Not by unpacking alone: nothing but survivors is ever anything but zero.
        places = [place.flat for place in net.packed.weights + net.packed.biases]
        rest = np.delete(np.arange(len(net.values)), np.concatenate(places))
        for flat in (net.values, net.first, net.second, net.grads):
            assert not flat[rest].view(np.uint32).any()


@pytest.mark.parametrize("path", PATHS)
def test_neurons_that_nothing_is_made_of_are_dropped(path: str) -> None:
    whole = layers(SIZES, 0.05, seed=3)
    neurons = [len(found) for found in reaching(whole)]
    assert neurons[1] < SIZES[1]
    assert neurons[2] < SIZES[2]
    net = network(whole, path)
    assert net.packed.plan[:, OUTPUTS].tolist() == neurons[1:]
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    found = gradients(net, net.room(7), x, np.zeros((7, 3), np.float32))
    now = x.astype(float)
    for at, layer in enumerate(whole):
        now = now @ (layer.weight * layer.kept()).T.astype(float) + layer.bias
        now = np.maximum(now, 0) if at < 2 else now
    np.testing.assert_allclose(found, now, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_neuron_that_sees_no_input_is_trained_as_a_constant(path: str) -> None:
    whole = layers((4, 6, 2), 1.0, seed=4)
    mask = np.ones((6, 4), bool)
    mask[2] = False
    whole[0] = Layer(whole[0].weight, np.abs(whole[0].bias), mask)
    net = network(whole, path)
    assert net.packed.plan[0, OUTPUTS] == 6
    before = net.layers()[0][1][2]
    room = net.room(3)
    gradients(net, room, np.ones((3, 4), np.float32), np.ones((3, 2), np.float32))
    net.step(sgd(), 0.1)
    assert net.layers()[0][1][2] != before


@pytest.mark.parametrize("path", PATHS)
def test_a_network_without_any_weight_left_learns_its_biases(path: str) -> None:
    net = network(layers(SIZES, 0.0, seed=5), path)
    before = arrays(net)[-1].copy()
    trained(net, 5, rule=adam())
    assert (arrays(net)[-1] != before).all()


@pytest.mark.parametrize("density", [1.0, 0.2, 0.02])
def test_threads_do_not_change_a_bit(density: float) -> None:
    def train(seed: int) -> Network:
        net = Network.of(layers(SIZES, density, seed=seed))
        return trained(net, 150, rule=adam(clip=1.0), seed=seed)

    alone = [train(seed).values for seed in range(4)]
    together: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: together.update({seed: train(seed).values}))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, values in enumerate(alone):
        np.testing.assert_array_equal(values, together[seed])


@pytest.mark.parametrize("path", PATHS)
def test_where_arrays_lie_in_memory_does_not_change_a_bit(path: str) -> None:
    def shifted(array: np.ndarray, by: int) -> np.ndarray:
        room = np.zeros(len(array) + 64, array.dtype)
        begin = (-room.ctypes.data % 64) // 4 + by
        room[begin : begin + len(array)] = array
        return room[begin : begin + len(array)]

    whole = layers(SIZES, 0.3, seed=6)
    found = []
    for by in (0, 1, 7):
        net = network(whole, path)
        for name in ("values", "grads", "first", "second"):
            setattr(net, name, shifted(getattr(net, name), by))
        found.append(trained(net, 20, rule=adam(clip=1.0)).values)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_paths_follow_the_table_of_densities() -> None:
    def path(density: float, inputs: int) -> int:
        mask = np.zeros(100 * inputs, bool)
        mask[: round(density * mask.size)] = True
        shape = (100, inputs)
        mask = np.random.default_rng(0).permutation(mask).reshape(shape)
        return int(Network.of([Layer(np.ones(shape), np.ones(100), mask)]).packed.plan[0, 0])

    assert path(1.0, 300) == DENSE
    assert path(0.9, 300) == DENSE
    assert path(0.4, 300) == SPARSE
    assert path(0.6, 100) == SPARSE
    assert path(0.6, 5000) == DENSE
    assert path(1.0, 4) == SPARSE


def test_what_is_no_number_stays_visible() -> None:
    """A training that diverged must not be mended by a rectifier."""
    for path in PATHS:
        whole = layers(SIZES, 0.5, seed=7)
        net = network(whole, path)
        outputs = gradients(
            net, net.room(2), np.full((2, 4), np.nan, np.float32), np.zeros((2, 3), np.float32)
        )
        assert np.isnan(outputs).all()
