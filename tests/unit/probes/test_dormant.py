"""Dead units are those that no path goes through, dormant ones those that are hardly active."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raylottery.errors import UsageError
from raylottery.probes.dormant import Activity, cut_off
from raylottery.probes.networks import network
from raylottery.spec import DQNTrainer, Sweep, parse_sweep


CLASSIFIER = """
name: small
trainer: {kind: classifier, dataset: mnist1d, model: mlp-9-8-7, length: 40it, batch_size: 50,
  lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""
AGENT = """
name: small
trainer: {kind: dqn, env: CartPole-v1, hidden: [9, 8], length: 2400ts}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""


def trainer(text: str, *changes: str):
    return parse_sweep(text, overrides=changes).trainer


def sparse(net: nn.Module, density: float, seed: int) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(parameter.shape, generator=chance) < density
        for name, parameter in net.named_parameters()
        if parameter.dim() > 1
    }


def dead(spec, masks) -> dict[str, list[bool]]:
    found = cut_off(network(spec).double(), masks, spec)
    return {name: units.tolist() for name, units in found.items()}


def through(mask: torch.Tensor, reached: torch.Tensor) -> torch.Tensor:
    """Which rows of a mask keep something among the columns that are reached."""
    return (mask & reached).any(dim=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5])
def test_units_of_an_mlp_are_dead_where_no_path_goes_through(density, seed):
    spec = trainer(CLASSIFIER)
    masks = sparse(network(spec), density, seed)
    layers = list(masks.values())
    reached = [torch.ones(40, dtype=torch.bool)]
    for mask in layers:
        reached.append(through(mask, reached[-1]))
    wanted = [torch.ones(10, dtype=torch.bool)]
    for mask in reversed(layers):
        wanted.append(through(mask.T, wanted[-1]))
    wanted.reverse()
    expected = {
        name: (~(a & b)).tolist()
        for name, a, b in zip(masks, reached[1:-1], wanted[1:-1], strict=False)
    }
    assert dead(spec, masks) == expected


@pytest.mark.parametrize("seed", range(8))
def test_what_goes_round_a_residual_layer_counts(seed):
    spec = trainer(CLASSIFIER, "trainer.model=residual-mlp-6-6-6")
    masks = sparse(network(spec), 0.15, seed)
    first, one, two, last = masks.values()
    stream = through(first, torch.ones(40, dtype=torch.bool))
    seen, streams = {}, [stream]
    for name, block in (("blocks.0.weight", one), ("blocks.1.weight", two)):
        seen[name] = through(block, stream)
        stream = stream | seen[name]
        streams.append(stream)
    after_two = through(last.T, torch.ones(10, dtype=torch.bool))
    after_one = after_two | through(two.T, after_two)
    after_first = after_one | through(one.T, after_one)
    assert dead(spec, masks) == {
        "first.weight": (~(streams[0] & after_first)).tolist(),
        "blocks.0.weight": (~(seen["blocks.0.weight"] & after_one)).tolist(),
        "blocks.1.weight": (~(seen["blocks.1.weight"] & after_two)).tolist(),
    }


@pytest.mark.parametrize("head", ["trainer.dueling=true", "trainer.atoms=51"])
def test_outputs_that_cancel_hide_no_path(head):
    """The mean advantage is taken off, and a distribution adds up to one."""
    spec = trainer(AGENT, head)
    masks = sparse(network(spec), 1.1, 0)
    assert not any(unit for units in dead(spec, masks).values() for unit in units)
    streams = [name for name in masks if not name.startswith("body")]
    masks[streams[-1]][:] = False
    masks[streams[-1]][:, 3] = True  # alone reads unit 3
    if len(streams) == 2:
        masks[streams[0]][:] = False
    assert dead(spec, masks)["body.2.weight"] == [unit != 3 for unit in range(8)]


@pytest.mark.parametrize("model", ["cnn-8-16", "conv-2", "resnet-20"])
def test_a_whole_network_has_no_dead_units_and_one_cut_in_two_no_others(model):
    spec = trainer(CLASSIFIER, "trainer.dataset=cifar-like", "trainer.examples=100",
                   f"trainer.model={model}")  # fmt: skip
    masks = sparse(network(spec), 1.1, 0)
    found = dead(spec, masks)
    assert found
    assert not any(unit for units in found.values() for unit in units)
    last = next(reversed(masks))
    masks[last][:] = False
    assert all(unit for units in dead(spec, masks).values() for unit in units)


def test_a_channel_that_nobody_reads_is_dead():
    spec = trainer(CLASSIFIER, "trainer.dataset=cifar-like", "trainer.examples=100",
                   "trainer.model=cnn-8-16")  # fmt: skip
    masks = sparse(network(spec), 1.1, 0)
    masks["features.4.weight"][:, 5] = False
    masks["features.4.weight"][2] = False
    found = dead(spec, masks)
    assert found["features.0.weight"] == [channel == 5 for channel in range(8)]
    assert found["features.4.weight"] == [channel == 2 for channel in range(16)]


def test_what_is_never_pruned_counts_as_kept():
    spec = trainer(CLASSIFIER)
    masks = sparse(network(spec), 1.1, 0)
    del masks["0.weight"]
    assert not any(dead(spec, masks)["0.weight"])


def test_a_network_of_single_precision_is_refused():
    spec = trainer(CLASSIFIER, "trainer.dataset=cifar-like", "trainer.examples=100",
                   "trainer.model=tests.networks:single")  # fmt: skip
    with pytest.raises(UsageError, match=r"worked out for tests.networks:single, which"):
        dead(spec, sparse(network(spec), 1.1, 0))


def test_a_unit_is_dormant_up_to_a_tenth_of_its_layers_mean():
    first, second = nn.Linear(1, 4), nn.Linear(4, 3)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        first.weight.copy_(torch.tensor([[1.0], [-1.0], [0.09], [0.1]]))
        second.bias.copy_(torch.tensor([-1.0, 0.0, 0.0]))
    activity = Activity(net)
    for x in (torch.tensor([[1.0]]), torch.tensor([[1.0], [-2.0]])):
        activity.watch(x)
    # means of 3 inputs: 2/3, 2/3, 0.06, 0.0667; their own mean 0.365
    found = {name: units.tolist() for name, units in activity.dormant().items()}
    assert found == {"0.weight": [False, False, False, False], "2.weight": [True] * 3}
    with torch.no_grad():
        first.weight[2] = 0.04
    again = Activity(net)
    again.watch(torch.tensor([[1.0], [-1.0]]))
    assert again.dormant()["0.weight"].tolist() == [False, False, True, False]


@pytest.mark.parametrize("model", ["mlp-9-8", "residual-mlp-6-6", "cnn-8-16", "conv-2"])
def test_every_rectifier_is_seen_and_as_it_is(model):
    """Against what modules before and behind it say of themselves."""
    sets = ["trainer.dataset=cifar-like", "trainer.examples=100", f"trainer.model={model}"]
    spec = trainer(CLASSIFIER, *sets)
    net = network(spec)
    given: list[torch.Tensor] = []
    rectified = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    for module in rectified:
        module.register_forward_hook(lambda module, args, out: given.append(out))
    activity = Activity(net)
    activity.watch(torch.randn((5, *spec.size.shape)))
    hidden = [n for n, p in net.named_parameters() if p.dim() > 1][:-1]
    assert list(activity.sums) == hidden
    for layer, out in zip(activity.sums, given, strict=False):
        by_hand = out.abs().double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(activity.sums[layer], by_hand.sum(dim=1))
        assert activity.counts[layer] == by_hand.shape[1]


def test_an_agent_is_a_network_like_others():
    spec = trainer(AGENT)
    assert isinstance(spec, DQNTrainer)
    activity = Activity(network(spec))
    activity.watch(torch.randn(6, 4))
    assert [len(units) for units in activity.dormant().values()] == [9, 8]
    assert isinstance(parse_sweep(AGENT), Sweep)
