"""Which parameters of a network may be pruned: one set, the same for every scope.

The weights of convolutions and linear layers, in module order. Biases and normalisation parameters
join them only if asked: a comparison of scopes that prune different sets means nothing. What is
excluded is no part of the set at all: it is not counted, not ranked and not masked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from raylottery.errors import UsageError, did_you_mean
from raylottery.spec.problems import shown


class Layer(NamedTuple):
    """A layer whose parameters may be pruned."""

    kind: Literal["linear", "convolution", "norm"]
    parameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """The names of the prunable parameters, and what some of them are."""

    names: tuple[str, ...]
    output: tuple[str, ...]
    """Those of the output layer; none where it is excluded."""
    convolutions: tuple[str, ...]
    """Those of convolutions."""


def chosen(
    layers: Sequence[Layer], parameters: Collection[str], exclude: Sequence[str], outputs: int = 1
) -> Prunable:
    """The prunable parameters of some layers, in their order, less what is excluded.

    Args:
        layers: those that could be pruned, at least one of them no norm.
        parameters: all of the network.
        exclude: names or patterns of parameters, or of their layers.
        outputs: how many of the last convolutions or linear layers give the output.
    """
    names = tuple(name for layer in layers for name in layer.parameters)
    refuse_idle("exclude", exclude, names, parameters)
    left = tuple(name for name in names if not any(fits(name, pattern) for pattern in exclude))
    if not left:
        raise UsageError(
            f"prune.exclude: {', '.join(exclude)} leaves nothing to prune of the {len(names)} "
            f"parameters that could be. Exclude fewer."
        )
    connections = [layer for layer in layers if layer.kind != "norm" and layer.parameters]
    output = {name for layer in connections[-outputs:] for name in layer.parameters}
    convolutions = {n for layer in layers if layer.kind == "convolution" for n in layer.parameters}
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
