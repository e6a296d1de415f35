"""Which parameters of a network may be pruned: one set, the same for every scope.

The weights of convolutions and linear layers, in module order. Biases and normalisation parameters
join them only if asked: a comparison of scopes that prune different sets means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


CONNECTIONS = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """The names of the prunable parameters, and those among them that are the output layer's."""

    names: tuple[str, ...]
    output: tuple[str, ...]


def prunable(module: nn.Module, biases: bool = False) -> Prunable:
    """The prunable parameters of `module`; the output layer is its last convolution or linear."""
    layers: list[tuple[str, ...]] = []
    output: tuple[str, ...] = ()
    # A parameter shared by two layers is listed once, under its first name.
    parameters = dict(module.named_parameters())
    for prefix, layer in module.named_modules():
        connects = isinstance(layer, CONNECTIONS)
        if not connects and not (biases and isinstance(layer, NORMS)):
            continue
        kinds = ("weight", "bias") if biases else ("weight",)
        dotted = (f"{prefix}.{kind}" if prefix else kind for kind in kinds)
        layers.append(tuple(name for name in dotted if name in parameters))
        if connects and layers[-1]:
            output = layers[-1]
    if not output:
        raise ValueError(
            f"{type(module).__name__} has no convolution or linear layer: nothing to prune"
        )
    return Prunable(names=tuple(name for layer in layers for name in layer), output=output)
