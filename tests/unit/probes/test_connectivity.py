"""The line between two networks: its ends are they to the bit, and what is between is measured."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from raylottery.probes.connectivity import (
    ALPHAS,
    Chord,
    between,
    chord,
    estimating,
    evaluator,
    recalibrate,
)
from raylottery.spec import parse_sweep
from raylottery.trainers.classifier import data


MLP = """
name: small
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 40it, batch_size: 50, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
NORMED = (
    "trainer.dataset=cifar-like", "trainer.examples=200", "trainer.model=tests.networks:normed",
)  # fmt: skip


@pytest.fixture(scope="module")
def plain():
    return evaluator(parse_sweep(MLP))


@pytest.fixture(scope="module")
def normed():
    return evaluator(parse_sweep(MLP, overrides=NORMED))


def measured(trainer, weights) -> float:
    trainer.net.load_state_dict(weights)
    return 1 - trainer.measure(trainer.dataset.test)[1]


def test_the_points_are_thirty_and_even_with_both_ends():
    assert len(ALPHAS) == 30
    assert (ALPHAS[0], ALPHAS[-1]) == (0, 1)
    assert all(b - a == pytest.approx(1 / 29) for a, b in pairwise(ALPHAS))


def test_the_barrier_is_the_highest_error_over_the_mean_of_the_ends():
    assert Chord((0.2, 0.5, 0.3), "none").barrier == pytest.approx(0.25)
    assert Chord((0.3, 0.1, 0.3), "none").barrier == 0


@pytest.mark.parametrize("engine", ["plain", "normed"])
def test_there_is_none_between_two_copies(engine, request):
    trainer = request.getfixturevalue(engine)
    weights = trainer.initial(1)
    copy = {name: tensor.clone() for name, tensor in weights.items()}
    found = chord(trainer, weights, copy)
    assert found.barrier == 0
    assert len(set(found.errors)) == 1


def test_the_ends_are_the_networks_to_the_bit(plain):
    one, other = plain.initial(1), plain.initial(2)
    for alpha, end in ((0, one), (1, other)):
        point = between(one, other, alpha)
        assert list(point) == list(end)
        assert all(torch.equal(point[name], end[name]) for name in end)
    found = chord(plain, one, other)
    assert (found.errors[0], found.errors[-1]) == (measured(plain, one), measured(plain, other))
    assert found.batch_norm == "none"
    back = chord(plain, other, one)
    assert back.errors[0] == found.errors[-1]


def test_a_point_in_between_is_their_weighted_mean(plain):
    one, other = plain.initial(1), plain.initial(2)
    for name, tensor in between(one, other, 0.25).items():
        torch.testing.assert_close(tensor, 0.75 * one[name] + 0.25 * other[name])


def test_batch_norms_are_estimated_on_training_data_at_every_point(normed):
    """Wherever the line is, they hold what the layer before gives there."""
    one, other = normed.initial(1), normed.initial(2)
    one["1.running_mean"] += 5  # of no use in between, nor at the ends
    assert chord(normed, one, other).batch_norm == "recalibrated"
    normed.net.load_state_dict(between(one, other, 0.5))
    recalibrate(estimating(normed.net), normed)
    images = normed.dataset.train.x
    given = normed.net[0](data.prepared(images, normed.spec, normed.dataset))
    norm = normed.net[1]
    torch.testing.assert_close(norm.running_mean, given.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, given.transpose(0, 1).flatten(1).var(dim=1))
    at_ends = chord(normed, one, one).errors[0]
    normed.net.load_state_dict(one)
    recalibrate(estimating(normed.net), normed)
    assert at_ends == 1 - normed.measure(normed.dataset.test)[1]


def test_counts_of_batches_are_no_weights(normed):
    one, other = normed.initial(1), normed.initial(2)
    other["1.num_batches_tracked"] += 3
    assert between(one, other, 0.5)["1.num_batches_tracked"] == one["1.num_batches_tracked"]
