"""Rewinding gives the snapshot back, bit for bit, under the mask."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from raylottery.pruning import Masks, apply_mask, prunable, prune
from raylottery.spec.sweep import Prune


def convnet() -> nn.Sequential:
    """Plain, depthwise and grouped convolutions, batch norm with its buffers, and a head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 1, groups=2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def train(net: nn.Module, num_steps: int) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(num_steps):
        optimizer.zero_grad()
        net(torch.randn(8, 2, 6, 6)).square().mean().backward()
        optimizer.step()


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(dict(net.state_dict()))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != torch.float32:
        return one.dtype == other.dtype and torch.equal(one, other)
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


@pytest.fixture
def rewound():
    """A net trained 3 steps, snapshotted, trained on, pruned by half and rewound."""
    net = convnet()
    train(net, 3)
    early = snapshot(net)
    train(net, 5)
    targets = prunable(net)
    late = snapshot(net)
    dense = Masks.dense(late, targets.names)
    masks = prune(late, dense, Prune(fraction=0.5, rounds=1), targets, seed=0)
    net.load_state_dict(apply_mask(early, masks), strict=True)
    return net, early, late, masks, targets


def test_survivors_are_bit_equal_to_the_snapshot(rewound):
    """A peer rewound to a snapshot that training had changed in place."""
    net, early, late, masks, _ = rewound
    for name, mask in masks.items():
        weight = net.state_dict()[name]
        assert same_bits(weight[mask], early[name][mask])
        assert not torch.equal(weight[mask], late[name][mask])


def test_biases_norms_and_buffers_are_bit_equal_to_the_snapshot(rewound):
    """Peers rewound parameters but kept the running statistics and the batch count."""
    net, early, late, masks, _ = rewound
    others = [name for name in early if name not in masks]
    assert {"0.bias", "1.weight", "1.running_mean", "1.running_var"} <= set(others)
    for name in others:
        assert same_bits(net.state_dict()[name], early[name])
    assert int(net[1].num_batches_tracked) == 3
    assert int(late["1.num_batches_tracked"]) == 8


def test_pruned_entries_are_plus_zero(rewound):
    """A negative weight times zero is -0.0, which hashes and packs differently."""
    net, early, _, masks, _ = rewound
    assert any((early[name][~mask] < 0).any() for name, mask in masks.items())
    for name, mask in masks.items():
        pruned = net.state_dict()[name][~mask]
        assert not pruned.any()
        assert not pruned.signbit().any()


def test_rewinding_changes_no_name_order_or_type(rewound):
    """Module surgery renames weight to weight_orig and breaks loading, copying and syncing."""
    net, early, _, _, _ = rewound
    assert list(net.state_dict()) == list(convnet().state_dict())
    assert [value.dtype for value in net.state_dict().values()] == [
        value.dtype for value in early.values()
    ]


def test_depthwise_and_grouped_convolutions_are_masked(rewound):
    """A peer's masked layers forgot `groups`."""
    net, _, _, masks, _ = rewound
    for name in ("2.weight", "4.weight"):
        assert 0 < int(masks[name].sum()) < masks[name].numel()
        assert torch.equal(net.state_dict()[name] != 0, masks[name])
    assert net(torch.randn(2, 2, 6, 6)).shape == (2, 3)


def test_training_the_ticket_leaves_the_snapshot_alone():
    """Rewound weights that share memory with the snapshot spoil it for every later round."""
    early = snapshot(convnet())
    spare = copy.deepcopy(early)
    masks = Masks.dense(early, prunable(convnet()).names)
    for value in apply_mask(early, masks).values():
        value.zero_()
    assert all(same_bits(early[name], spare[name]) for name in early)


def test_masking_twice_is_masking_once(rewound):
    _, early, _, masks, _ = rewound
    once = apply_mask(early, masks)
    twice = apply_mask(once, masks)
    assert all(same_bits(once[name], twice[name]) for name in early)


def test_masking_refuses_weights_of_another_network():
    masks = Masks.dense({"weight": torch.ones(2, 3)}, ["weight"])
    with pytest.raises(ValueError, match="belongs to another network"):
        apply_mask({"weight": torch.ones(3, 3)}, masks)
