"""The prunable parameters of a torch network; which they are is said in `sizes.prunable`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from raylottery.errors import UsageError
from raylottery.sizes.prunable import Layer, Prunable, chosen


CONNECTIONS = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def prunable(
    module: nn.Module, biases: bool = False, exclude: Sequence[str] = (), outputs: int = 1
) -> Prunable:
    """The prunable parameters of `module`; the output layer is its last convolution or linear.

    Args:
        module: a network, whose tensors may be of shapes alone.
        biases: whether biases and normalisation parameters are pruned too.
        exclude: names or patterns of parameters, or of their layers, that are not.
        outputs: how many layers give the output.
    """
    # A parameter shared by two layers is listed once, under its first name.
    parameters = dict(module.named_parameters())
    layers = []
    for prefix, layer in module.named_modules():
        if isinstance(layer, (*CONNECTIONS, *NORMS) if biases else CONNECTIONS):
            own = ("weight", "bias") if biases else ("weight",)
            dotted = (f"{prefix}.{name}" if prefix else name for name in own)
            names = tuple(name for name in dotted if name in parameters)
            layers.append(Layer(kind(layer), names))
    if not any(layer.parameters for layer in layers if layer.kind != "norm"):
        raise UsageError(
            f"{type(module).__name__} has no convolution or linear layer: nothing to prune. Take "
            f"a network that has one."
        )
    return chosen(layers, parameters, exclude, outputs)


def kind(layer: nn.Module) -> Literal["linear", "convolution", "norm"]:
    """What a layer is, of those that may be pruned."""
    if isinstance(layer, _ConvNd):
        return "convolution"
    return "linear" if isinstance(layer, nn.Linear) else "norm"
