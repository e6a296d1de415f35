"""The guard: whatever the optimizer does, pruned entries stay at zero."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from raylottery.pruning import Guard, Masks, prunable


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "sgd-momentum-wd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "sgd-nesterov": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.01),
    "adam-wd-amsgrad": partial(torch.optim.Adam, lr=0.01, weight_decay=0.1, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    "adamw-foreach": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, foreach=True),
    "adamw-fused": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, fused=True),
}

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Tanh(),
        nn.Linear(16, 3),
    )


def half(net: nn.Module, biases: bool = False) -> Masks:
    """Random masks of density one half."""
    weights = dict(net.named_parameters())
    return Masks({n: torch.rand(weights[n].shape) < 0.5 for n in prunable(net, biases).names})


def backward(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(torch.randn(8, 2, 6, 6)), torch.arange(8) % 3).backward()


def step(net: nn.Module, optimizer: torch.optim.Optimizer, guard: Guard) -> None:
    backward(net, optimizer)
    guard.mask_gradients()
    optimizer.step()
    guard.mask_weights()


def gradient(weight: nn.Parameter) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad


def assert_pruned_are_zero(net: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer) -> None:
    for name, weight in net.named_parameters():
        if name not in masks:
            continue
        pruned = ~masks[name]
        assert not weight.detach()[pruned].any()
        assert not weight.detach()[pruned].signbit().any()
        assert not gradient(weight)[pruned].any()
        for value in optimizer.state[weight].values():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                assert not value[pruned].any()


@every_optimizer
@pytest.mark.parametrize("biases", [False, True])
def test_pruned_entries_are_exactly_zero_after_every_step(make, biases):
    """Momentum, Adam's moments and weight decay revived pruned weights in peers."""
    net = convnet()
    masks = half(net, biases)
    optimizer = make(net.parameters())
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    for _ in range(12):
        step(net, optimizer, guard)
        assert_pruned_are_zero(net, masks, optimizer)
    assert guard.revived() == 0


@every_optimizer
def test_kept_weights_move_negative_ones_too(make):
    """A peer masked by `w > threshold`, which freezes every negative weight."""
    net = convnet()
    masks = half(net)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    optimizer = make(net.parameters())
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    for _ in range(3):
        step(net, optimizer, guard)
    for name, mask in masks.items():
        negative = mask & (before[name] < 0)
        after = net.get_parameter(name).detach()
        assert negative.any()
        assert (after != before[name])[negative].all()
        assert (after != before[name])[mask].all()


@every_optimizer
def test_stale_optimizer_state_revives_nothing(make):
    """Zero gradients are not enough: moments of the dense training move pruned weights."""
    net = convnet()
    masks = half(net)
    optimizer = make(net.parameters())
    for _ in range(5):
        backward(net, optimizer)
        optimizer.step()
    guard = Guard(net.named_parameters(), masks, optimizer)
    assert guard.revived() > 0
    guard.hold()
    assert guard.revived() == 0
    for _ in range(6):
        step(net, optimizer, guard)
        assert_pruned_are_zero(net, masks, optimizer)


def test_an_optimizer_that_moves_weights_without_gradients_revives_nothing():
    """Such as one whose state is loaded after the guard took hold."""
    net = convnet()
    masks = half(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    backward(net, optimizer)
    optimizer.step()
    stale = copy.deepcopy(optimizer.state_dict())
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    optimizer.load_state_dict(stale)
    backward(net, optimizer)
    guard.mask_gradients()
    optimizer.step()
    assert guard.revived() > 0
    guard.mask_weights()
    assert guard.revived() == 0


def test_holding_keeps_the_moments_of_survivors():
    net = convnet()
    masks = half(net)
    optimizer = torch.optim.Adam(net.parameters())
    for _ in range(2):
        backward(net, optimizer)
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    Guard(net.named_parameters(), masks, optimizer).hold()
    after = optimizer.state_dict()["state"]
    for index, (name, weight) in enumerate(net.named_parameters()):
        kept = masks[name] if name in masks else torch.ones_like(weight, dtype=torch.bool)
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(after[index][moment][kept], before[index][moment][kept])
        assert after[index]["step"] == 2


def test_without_the_guard_pruned_weights_come_back():
    """Shows that the tests above can fail."""
    net = convnet()
    masks = half(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    backward(net, optimizer)
    optimizer.step()
    pruned = masks.prunable - masks.kept
    assert 0.9 * pruned < guard.revived() <= pruned


def test_revived_counts_each_pruned_entry_that_is_not_zero():
    net = nn.Linear(3, 2, bias=False)
    masks = Masks({"weight": torch.tensor([[True, False, False], [False, True, True]])})
    guard = Guard(net.named_parameters(), masks, torch.optim.SGD(net.parameters()))
    guard.hold()
    with torch.no_grad():
        net.weight[0, 1], net.weight[1, 0], net.weight[0, 0] = 1e-30, float("nan"), 7.0
    assert guard.revived() == 2


@every_optimizer
def test_dense_masks_change_nothing(make):
    nets, guarded = [convnet(), convnet()], [True, False]
    for net, is_guarded in zip(nets, guarded, strict=True):
        optimizer = make(net.parameters())
        weights = dict(net.named_parameters())
        guard = Guard(weights.items(), Masks.dense(weights, prunable(net).names), optimizer)
        torch.manual_seed(1)
        if is_guarded:
            guard.hold()
        for _ in range(5):
            if is_guarded:
                step(net, optimizer, guard)
            else:
                backward(net, optimizer)
                optimizer.step()
    one, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_gradient_clipping_sees_survivors_only():
    """A norm that counts pruned gradients shrinks the steps of the survivors."""
    net = convnet()
    masks = half(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    backward(net, optimizer)
    full = clip_grad_norm_(net.parameters(), 1e9)
    survivors = [
        gradient(weight)[masks[name]] if name in masks else gradient(weight).flatten()
        for name, weight in net.named_parameters()
    ]
    guard.mask_gradients()
    norm = clip_grad_norm_(net.parameters(), 1e9)
    assert norm.item() == pytest.approx(torch.cat(survivors).norm().item(), rel=1e-5)
    assert norm < 0.95 * full


def test_names_modules_and_copies_are_as_before():
    """Module surgery breaks state_dict keys and deepcopy; depthwise convolutions lost `groups`."""
    net = convnet()
    plain = convnet()
    optimizer = torch.optim.Adam(net.parameters())
    guard = Guard(net.named_parameters(), half(net), optimizer)
    guard.hold()
    step(net, optimizer, guard)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [type(layer) for layer in net.modules()] == [type(layer) for layer in plain.modules()]
    assert net[1].groups == 4
    plain.load_state_dict(net.state_dict(), strict=True)
    twin = copy.deepcopy(net)
    x = torch.randn(2, 2, 6, 6)
    assert torch.equal(twin.eval()(x), net.eval()(x))


def test_channels_last_weights_are_held():
    net = convnet().to(memory_format=torch.channels_last)
    masks = half(net)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    for _ in range(3):
        step(net, optimizer, guard)
        assert_pruned_are_zero(net, masks, optimizer)
    assert net.get_parameter("0.weight").is_contiguous(memory_format=torch.channels_last)


def test_weights_without_gradients_are_skipped():
    """Layers that a loss does not reach, or that are frozen, have no gradient to mask."""
    net = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    masks = Masks({f"{name}.weight": torch.eye(2, dtype=torch.bool) for name in ("used", "idle")})
    optimizer = torch.optim.Adam(net.parameters())
    guard = Guard(net.named_parameters(), masks, optimizer)
    guard.hold()
    guard.mask_gradients()
    net["used"](torch.ones(1, 2)).sum().backward()
    guard.mask_gradients()
    optimizer.step()
    guard.mask_weights()
    assert guard.revived() == 0
    assert net.get_parameter("idle.weight").grad is None
    assert torch.equal(gradient(net.get_parameter("used.weight")), torch.eye(2))


def test_masks_of_another_network_are_refused():
    net = nn.Linear(3, 2)
    masks = Masks({"fc.weight": torch.ones(2, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"'fc\.weight' but no such weights"):
        Guard(net.named_parameters(), masks, torch.optim.SGD(net.parameters()))
