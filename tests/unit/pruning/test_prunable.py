"""What may be pruned is one set, whatever the scope."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raylottery.errors import UsageError
from raylottery.pruning import prunable
from raylottery.sizes.prunable import Prunable, losing


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
        names=("0.weight", "2.weight", "4.weight", "6.weight"),
        output=("6.weight",),
        convolutions=("0.weight", "2.weight"),
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
    assert found.convolutions == ("0.weight", "0.bias", "2.weight"), "a norm is none"


def test_buffers_are_never_prunable():
    names = prunable(nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)), biases=True).names
    assert names == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_output_is_the_last_connection_even_where_a_norm_follows():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2), nn.LayerNorm(2))
    assert prunable(net, biases=True).output == ("1.weight", "1.bias")


def test_a_layer_alone_is_prunable():
    assert prunable(nn.Linear(3, 2)) == Prunable(
        names=("weight",), output=("weight",), convolutions=()
    )


def test_shared_weights_are_prunable_once():
    """Counting a shared tensor twice puts the density out of [0, 1]."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    assert prunable(net).names == ("0.weight", "3.weight")


def test_transposed_convolutions_are_prunable():
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Conv3d(3, 1, 2))
    assert prunable(net).names == prunable(net).convolutions == ("0.weight", "1.weight")


def test_prunable_needs_no_data():
    with torch.device("meta"):
        net = convnet()
    assert prunable(net) == prunable(convnet())


def test_a_network_without_connections_is_refused():
    with pytest.raises(UsageError, match="BatchNorm1d has no convolution or linear layer"):
        prunable(nn.BatchNorm1d(3))


# Excluded


@pytest.mark.parametrize(
    ("exclude", "names"),
    [
        (["2.weight"], ("0.weight", "4.weight", "6.weight")),
        (["2"], ("0.weight", "4.weight", "6.weight")),
        (["[02]"], ("4.weight", "6.weight")),
        (["6.*", "?.weight", "0"], None),
        (["4", "4.*", "0"], ("2.weight", "6.weight")),
    ],
)
def test_what_is_excluded_by_name_layer_or_pattern_is_not_prunable(exclude, names):
    if names is None:
        with pytest.raises(UsageError) as refused:
            prunable(convnet(), exclude=exclude)
        assert str(refused.value) == (
            "prune.exclude: 6.*, ?.weight, 0 leaves nothing to prune of the 4 parameters that "
            "could be. Exclude fewer."
        )
    else:
        assert prunable(convnet(), exclude=exclude).names == names


def test_a_pattern_means_whole_names():
    net = nn.Sequential()
    net.add_module("fc", nn.Linear(2, 2))
    net.add_module("fc2", nn.Linear(2, 2))
    assert prunable(net, exclude=["fc"]).names == ("fc2.weight",)
    assert prunable(net, exclude=["fc.*"]).names == ("fc2.weight",)


def test_an_excluded_output_layer_is_nobody_elses_role():
    """The layer before it is pruned at the full rate, as it was."""
    found = prunable(convnet(), exclude=["6", "2"])
    assert found == Prunable(names=("0.weight", "4.weight"), output=(), convolutions=("0.weight",))
    half = prunable(convnet(), biases=True, exclude=["6.weight"])
    assert half.output == ("6.bias",)


def test_an_excluded_layer_takes_its_bias_along():
    found = prunable(convnet(), biases=True, exclude=["4", "*.bias"])
    assert found.names == ("0.weight", "1.weight", "2.weight", "5.weight", "6.weight")


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["layer2.downsampel"], "'layer2.downsampel' fits no parameter of the network. Did you "
         "mean 'layer2.downsample'?"),
        (["fc", "layr1"], "'layr1' fits no parameter of the network. Did you mean 'layer1'?"),
        (["Fc.weight"], "'Fc.weight' fits no parameter of the network. Did you mean 'fc.weight'?"),
        (["zzz"], "'zzz' fits no parameter of the network. Valid: layer1, layer2.downsample, fc, "
         "layer1.weight, layer2.downsample.weight, fc.weight."),
        (["*.bias"], "'*.bias' fits layer1.bias, which is not pruned anyway. Leave it out."),
    ],
)  # fmt: skip
def test_a_pattern_that_excludes_nothing_is_refused_with_the_nearest_name(exclude, message):
    net = nn.ModuleDict(
        {
            "layer1": nn.Conv2d(1, 2, 3),
            "layer2": nn.ModuleDict({"downsample": nn.Conv2d(2, 2, 1)}),
            "fc": nn.Linear(2, 2),
        }
    )
    with pytest.raises(UsageError) as refused:
        prunable(net, exclude=exclude)
    assert str(refused.value) == f"prune.exclude: {message}"


# Those that alone lose weights


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["2.weight"], ("2.weight",)),
        (["6", "0"], ("0.weight", "6.weight")),
        (["[02]", "0.*"], ("0.weight", "2.weight")),
        (["*"], ("0.weight", "2.weight", "4.weight", "6.weight")),
    ],
)
def test_what_alone_loses_weights_is_said_by_name_layer_or_pattern(only, names):
    """In layer order, whatever the order of the patterns."""
    assert losing(only, prunable(convnet())) == names


def test_a_layer_that_loses_weights_loses_biases_if_they_are_prunable():
    assert losing(["4"], prunable(convnet(), biases=True)) == ("4.weight", "4.bias")


@pytest.mark.parametrize("pattern", ["1", "*.bias", "6"])
def test_what_is_not_prunable_cannot_be_what_alone_loses_weights(pattern):
    """A norm, a bias, and a layer that is excluded."""
    found = prunable(convnet(), exclude=["6"])
    with pytest.raises(UsageError, match=r"^prune\.only: ") as refused:
        losing(["0", pattern], found)
    assert repr(pattern) in str(refused.value)
    assert "0.weight, 2.weight, 4.weight" in str(refused.value)


def test_a_mistyped_name_that_alone_were_to_lose_weights_is_refused_with_the_nearest():
    net = nn.ModuleDict({"layer1": nn.Conv2d(1, 2, 3), "fc": nn.Linear(2, 2)})
    with pytest.raises(UsageError) as refused:
        losing(["fc", "layr1"], prunable(net))
    assert str(refused.value).startswith("prune.only: 'layr1' fits no ")
    assert str(refused.value).endswith("parameter of the network. Did you mean 'layer1'?")
