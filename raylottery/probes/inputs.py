"""Which of a network's inputs the weights that are left still read."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn

from raylottery.errors import UsageError
from raylottery.probes.finished import FinishedRounds
from raylottery.probes.networks import PerNetwork, input_shape, network
from raylottery.pruning.prunable import CONNECTIONS
from raylottery.spec import Sweep
from raylottery.spec.nuisance import Input, input_kinds


class First(NamedTuple):
    """The layer that reads the inputs."""

    name: str
    """Of its weights."""
    dense: torch.Tensor
    """Its mask in a dense network."""
    inputs: tuple[Input, ...]


def rows(found: FinishedRounds) -> Iterator[dict[str, Any]]:
    layers = PerNetwork(first_layer)
    for finished, sections in found.each(found.tickets(found.masked), len(found.masked)):
        first = layers.of(finished.study)
        mask = sections["mask"].get(first.name, first.dense)  # dense where it is never pruned
        fanout = per_input(mask).sum(dim=1).tolist()
        most = per_input(first.dense).shape[1]
        for one, kept in zip(first.inputs, fanout, strict=True):
            yield {
                **finished.control_head(),
                "input": one.index,
                "input_kind": one.kind,
                "source": one.source if one.kind == "duplicate" else None,
                "name": one.name,
                "fanout": kept,
                "share": kept / most,
                "alive": kept > 0,
            }


def per_input(mask: torch.Tensor) -> torch.Tensor:
    """By input, the mask of the weights that read it."""
    return mask.transpose(0, 1).reshape(mask.shape[1], -1)


def first_layer(study: Sweep) -> First:
    """The layer that reads a network's inputs, or an image's channels; UsageError if none does."""
    spec, shape = study.trainer, input_shape(study.trainer)
    layers = network(spec).named_modules()
    name, layer = next((n, m) for n, m in layers if isinstance(m, CONNECTIONS))
    reads = prod(shape) if isinstance(layer, nn.Linear) else shape[0]
    weight = layer.weight
    if weight.dim() < 2 or weight.shape[1] != reads:
        raise UsageError(
            f"inputs follows the weights of the first layer, and that of {spec.model}, {name}, "
            f"does not read the {reads} inputs one by one. Take another kind, such as profiles."
        )
    inputs = tuple(input_kinds(spec, reads))
    if not isinstance(layer, nn.Linear):
        inputs = tuple(one._replace(name=f"channel {one.index}") for one in inputs)
    dense = torch.ones(weight.shape, dtype=torch.bool)
    return First(f"{name}.weight" if name else "weight", dense, inputs)
