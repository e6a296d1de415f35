"""Networks of dense layers, as the trainers build and name them.

What has other layers, or is anybody's own, is known when torch has made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from raylottery.sizes.prunable import Layer, Prunable, chosen
from raylottery.spec import ClassifierTrainer, DQNTrainer, parse_mlp


@dataclass(frozen=True)
class Dense:
    """Layers that have a weight for each pair of input and output, and a bias for each output."""

    layers: Mapping[str, tuple[int, int]]
    """Inputs and outputs of each, by its name."""
    outputs: int = 1
    """How many of the last layers give the output."""
    residual: bool = False
    """Whether those between the first and the last add to what they are given."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters, in torch's order."""
        return {
            f"{name}.{parameter}": shape
            for name, (inputs, outputs) in self.layers.items()
            for parameter, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
        }

    def prunable(self, *, biases: bool, exclude: Sequence[str]) -> Prunable:
        """The parameters that may be pruned; UsageError for idle patterns."""
        own = ("weight", "bias") if biases else ("weight",)
        layers = [Layer("linear", tuple(f"{name}.{p}" for p in own)) for name in self.layers]
        return chosen(layers, self.shapes, exclude, self.outputs)


def mlp(model: str) -> tuple[bool, tuple[int, ...]] | None:
    """Whether a classifier of dense layers alone is residual, and its hidden widths."""
    return (False, (300, 100)) if model == "lenet-300-100" else parse_mlp(model)


def classifier(spec: ClassifierTrainer) -> Dense | None:
    """The layers of a classifier; None for one that has others."""
    found = mlp(spec.model)
    if found is None:
        return None
    residual, hidden = found
    sizes = [*pairwise((spec.size.inputs, *hidden, spec.size.classes))]
    if residual:
        names = ["first", *(f"blocks.{i}" for i in range(len(hidden) - 1)), "last"]
    else:  # a rectifier stands between each two
        names = [str(2 * place) for place in range(len(sizes))]
    return Dense(dict(zip(names, sizes, strict=True)), residual=residual)


def agent(spec: DQNTrainer, inputs: int, actions: int) -> Dense:
    """The layers of an agent whose model is an mlp."""
    widths = (inputs, *spec.widths)
    layers = {f"body.{2 * place}": sizes for place, sizes in enumerate(pairwise(widths))}
    if not spec.dueling:
        return Dense({**layers, "head": (widths[-1], actions * spec.atoms)})
    value, advantage = (widths[-1], spec.atoms), (widths[-1], actions * spec.atoms)
    return Dense({**layers, "value": value, "advantage": advantage}, outputs=2)
