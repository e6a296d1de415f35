"""What is said of a network before any ticket is looked at: its inputs, and its size."""

from __future__ import annotations

import pytest

from raylottery.errors import UsageError
from raylottery.probes.inputs import first_layer, per_input
from raylottery.probes.networks import PerNetwork
from raylottery.probes.size import size_of
from raylottery.spec import parse_sweep


STUDY = """
name: small
trainer: {kind: classifier, dataset: mnist1d, model: mlp-12-6, length: 40it, batch_size: 50,
  lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
IMAGES = ("trainer.dataset=cifar-like", "trainer.examples=100")


def study(*changes: str):
    return parse_sweep(STUDY, overrides=changes)


def test_the_inputs_of_dense_layers_are_those_of_the_data():
    first = first_layer(study())
    assert (first.name, tuple(first.dense.shape)) == ("0.weight", (12, 40))
    assert [one.index for one in first.inputs] == list(range(40))
    assert {one.kind for one in first.inputs} == {"own"}
    assert first_layer(study("trainer.model=residual-mlp-7-7")).name == "first.weight"


def test_nuisance_inputs_are_told_from_the_tasks_own():
    first = first_layer(study("trainer.nuisance={noise: 2, duplicates: 3}"))
    assert [one.kind for one in first.inputs] == ["own"] * 40 + ["noise"] * 2 + ["duplicate"] * 3
    assert [one.source for one in first.inputs[-3:]] == [0, 1, 2]


def test_pixels_of_an_mlp_are_inputs_and_channels_of_a_convolution():
    assert len(first_layer(study(*IMAGES)).inputs) == 3 * 32 * 32
    first = first_layer(study(*IMAGES, "trainer.model=cnn-8"))
    assert [one.name for one in first.inputs] == ["channel 0", "channel 1", "channel 2"]
    assert tuple(per_input(first.dense).shape) == (3, 8 * 9)


def test_a_first_layer_that_reads_something_else_is_refused():
    with pytest.raises(UsageError, match="does not read the 3 inputs one by one"):
        first_layer(study(*IMAGES, "trainer.model=tests.networks:patched"))


def test_sizes_of_dense_layers():
    size = size_of(study())
    assert size.params == 40 * 12 + 12 + 12 * 6 + 6 + 6 * 10 + 10
    assert size.macs == 40 * 12 + 12 * 6 + 6 * 10
    assert set(size.uses.values()) == {1}


def test_a_weight_of_a_convolution_counts_at_each_pixel_and_a_norm_not_at_all():
    size = size_of(study(*IMAGES, "trainer.model=cnn-8"))
    assert size.params == 3 * 8 * 9 + 8 + 2 * 8 + 8 * 10 + 10
    assert size.macs == 3 * 8 * 9 * 32 * 32 + 8 * 10


def test_an_agent_has_a_size_too():
    agent = parse_sweep(
        "name: a\ntrainer: {kind: dqn, env: CartPole-v1, hidden: [5], length: 2400ts}\n"
        "prune: {fraction: 0.5, rounds: 1}\nseeds: [0]\n"
    )
    assert size_of(agent).macs == 4 * 5 + 5 * 2


def test_a_network_is_worked_out_once():
    asked = []
    each = PerNetwork(lambda study: asked.append(study.trainer.model))
    for model in ("mlp-3", "mlp-4", "mlp-3"):
        each.of(study(f"trainer.model={model}"))
    each.of(study("trainer.model=mlp-3", "prune.biases=true"))
    assert asked == ["mlp-3", "mlp-4", "mlp-3"]
