"""How often weights are used for one example: by hand, and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from raylottery.pruning import prunable
from raylottery.trainers.positions import blank, positions


def used(net: nn.Module, *shape: int) -> dict[str, int]:
    return {name: count for name, count in positions(net, shape).items() if "bias" not in name}


def test_a_convolution_is_used_at_each_pixel_of_its_output():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(4 * 5 * 5, 10),
    )  # fmt: skip
    assert used(net, 3, 32, 32) == {
        "0.weight": 32 * 32, "2.weight": 7 * 7, "3.weight": 5 * 5, "5.weight": 1,
    }  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_is_used_at_each_pixel_of_its_input(groups):
    net = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
    assert positions(net, (4, 5, 5)) == {"weight": 25, "bias": 11 * 11}


def test_biases_and_norms_are_used_as_often_as_there_are_values_for_each():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.GroupNorm(2, 8))
    assert set(positions(net, (3, 4, 5)).values()) == {20}
    assert positions(nn.LayerNorm([2, 3]), (2, 3)) == {"weight": 1, "bias": 1}


def test_a_linear_layer_is_used_for_each_token():
    assert positions(nn.Linear(6, 4), (7, 6)) == {"weight": 7, "bias": 7}


class Odd(nn.Module):
    """Layers used twice, by hand, by another module, by both of two names, and not at all."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(8, 8)
        self.by_hand = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.tied = nn.Linear(8, 8)
        self.tied_too = nn.Linear(8, 8)
        self.tied_too.weight = self.tied.weight
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x))
        x = functional.linear(x, self.by_hand.weight, self.by_hand.bias)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.tied_too(self.tied(x))


def test_uses_are_found_however_a_weight_is_used():
    found = used(Odd(), 5, 8)
    assert found["twice.weight"] == 10
    assert found["by_hand.weight"] == 5
    assert found["attention.out_proj.weight"] == 5
    assert found["tied.weight"] == 10
    assert found["unused.weight"] == 0
    assert set(prunable(Odd()).names) <= set(found)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1"]
)
def test_multiply_adds_are_those_that_torch_counts(name):
    """Depthwise and grouped convolutions among them; torch counts each as two operations."""
    from torchvision.models import get_model

    with torch.device("meta"):
        net = get_model(name, weights=None, num_classes=10)
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    counted = positions(net, (3, 64, 64))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(blank(net, (3, 64, 64)))
    ours = sum(sizes[name] * counted[name] for name in prunable(net).names)
    assert counter.get_total_flops() == 2 * 2 * ours, "for a batch of two"


def test_looking_changes_no_random_state():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    before = torch.get_rng_state()
    positions(net, (4,))
    assert torch.equal(torch.get_rng_state(), before)
