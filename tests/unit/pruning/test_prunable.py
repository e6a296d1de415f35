"""What may be pruned is one set, whatever the scope."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raylottery.pruning import Prunable, prunable


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.LayerNorm(6),
        nn.Linear(6, 3),
    )


def test_prunable_are_conv_and_linear_weights_in_module_order():
    assert prunable(convnet()) == Prunable(
        names=("0.weight", "2.weight", "4.weight", "6.weight"), output=("6.weight",)
    )


def test_biases_and_norms_are_prunable_only_if_asked():
    found = prunable(convnet(), biases=True)
    assert found.names == (
        *("0.weight", "0.bias"),
        *("1.weight", "1.bias"),
        "2.weight",
        *("4.weight", "4.bias"),
        *("5.weight", "5.bias"),
        *("6.weight", "6.bias"),
    )
    assert found.output == ("6.weight", "6.bias")


def test_buffers_are_never_prunable():
    names = prunable(nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), biases=True).names
    assert names == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_output_is_the_last_connection_even_where_a_norm_follows():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2), nn.LayerNorm(2))
    assert prunable(net, biases=True).output == ("1.weight", "1.bias")


def test_a_layer_alone_is_prunable():
    assert prunable(nn.Linear(3, 2)) == Prunable(names=("weight",), output=("weight",))


def test_shared_weights_are_prunable_once():
    """Counting a shared tensor twice puts the density out of [0, 1]."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    assert prunable(net).names == ("0.weight", "3.weight")


def test_transposed_convolutions_are_prunable():
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Conv3d(3, 1, 2))
    assert prunable(net).names == ("0.weight", "1.weight")


def test_prunable_needs_no_data():
    with torch.device("meta"):
        net = convnet()
    assert prunable(net) == prunable(convnet())


def test_a_network_without_connections_is_refused():
    with pytest.raises(ValueError, match="BatchNorm1d has no convolution or linear layer"):
        prunable(nn.BatchNorm1d(3))
