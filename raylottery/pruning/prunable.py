"""Which parameters of a network may be pruned: one set, the same for every scope.

The weights of convolutions and linear layers, in module order. Biases and normalisation parameters
join them only if asked: a comparison of scopes that prune different sets means nothing. What is
excluded is no part of the set at all: it is not counted, not ranked and not masked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from raylottery.errors import UsageError, did_you_mean
from raylottery.spec.problems import shown


CONNECTIONS = (nn.Linear, _ConvNd)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """The names of the prunable parameters, and what some of them are."""

    names: tuple[str, ...]
    output: tuple[str, ...]
    """Those of the output layer; none where it is excluded."""
    convolutions: tuple[str, ...]
    """Those of convolutions."""


def prunable(module: nn.Module, biases: bool = False, exclude: Sequence[str] = ()) -> Prunable:
    """The prunable parameters of `module`; the output layer is its last convolution or linear.

    Args:
        module: a network, whose tensors may be of shapes alone.
        biases: whether biases and normalisation parameters are pruned too.
        exclude: names or patterns of parameters, or of their layers, that are not.
    """
    layers: list[tuple[str, ...]] = []
    convolutions: set[str] = set()
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
        if isinstance(layer, _ConvNd):
            convolutions.update(layers[-1])
    if not output:
        raise UsageError(
            f"{type(module).__name__} has no convolution or linear layer: nothing to prune. Take "
            f"a network that has one."
        )
    names = tuple(name for layer in layers for name in layer)
    refuse_idle("exclude", exclude, names, parameters)
    left = tuple(name for name in names if not any(fits(name, pattern) for pattern in exclude))
    if not left:
        raise UsageError(
            f"prune.exclude: {', '.join(exclude)} leaves nothing to prune of the {len(names)} "
            f"parameters that could be. Exclude fewer."
        )
    return Prunable(
        names=left,
        output=tuple(name for name in left if name in output),
        convolutions=tuple(name for name in left if name in convolutions),
    )


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern means a parameter: by its own name, or by that of its layer."""
    layer = name.rpartition(".")[0]
    return fnmatchcase(name, pattern) or fnmatchcase(layer, pattern)


def losing(only: Sequence[str], prunable: Prunable) -> tuple[str, ...]:
    """Those of the prunable parameters that lose weights."""
    refuse_idle("only", only, prunable.names, prunable.names)
    return tuple(name for name in prunable.names if any(fits(name, pattern) for pattern in only))


def refuse_idle(
    field: str, patterns: Sequence[str], names: Sequence[str], parameters: Collection[str]
) -> None:
    """Refuse a pattern that means nothing, which is a mistyped name more often than not."""
    for pattern in patterns:
        if any(fits(name, pattern) for name in names):
            continue
        never = [name for name in parameters if fits(name, pattern)]
        if never:
            raise UsageError(
                f"prune.{field}: {shown(pattern)} fits {never[0]}, which is not pruned anyway. "
                f"Leave it out."
            )
        layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
        raise UsageError(
            f"prune.{field}: {shown(pattern)} fits no "
            f"{'prunable ' if field == 'only' else ''}parameter of the network. "
            f"{did_you_mean(pattern, (*filter(None, layers), *names))}"
        )
