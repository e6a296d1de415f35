"""An agent's weights by name, as the kernel's layers, and back.

The streams of a dueling network are one layer, value first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from raylottery.kernel import Layer, Network
from raylottery.spec import DQNTrainer
from raylottery.trainers.base import Weights


def groups(spec: DQNTrainer) -> list[tuple[str, ...]]:
    """The modules of the network that each layer stands for."""
    body = [(f"body.{2 * place}",) for place in range(len(spec.widths))]
    return [*body, ("value", "advantage") if spec.dueling else ("head",)]


def network(spec: DQNTrainer, weights: Weights, masks: Mapping[str, Tensor]) -> Network:
    """A packed network; what has no mask is kept whole."""
    return Network.of(
        [Layer(*whole(weights, group), *kept(weights, masks, group)) for group in groups(spec)]
    )


def whole(tensors: Weights, group: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of the modules that are one layer."""
    return joined(tensors, "weight", group), joined(tensors, "bias", group)


def joined(tensors: Weights, kind: str, group: Sequence[str]) -> np.ndarray:
    return np.concatenate([tensors[f"{name}.{kind}"].detach().numpy() for name in group])


def kept(
    weights: Weights, masks: Mapping[str, Tensor], group: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Which of them survive."""
    every = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in weights.items()}
    return whole({**every, **masks}, group)


def named(spec: DQNTrainer, net: Network, flat: np.ndarray | None = None) -> Weights:
    """The numbers of a network, or what else lies like them, by the names of its parameters."""
    found = {}
    for group, (weight, bias) in zip(groups(spec), net.layers(flat), strict=True):
        begin = 0
        for name in group:
            end = begin + (1 if name == "value" else len(weight) - begin)
            found[f"{name}.weight"] = torch.from_numpy(weight[begin:end].copy())
            found[f"{name}.bias"] = torch.from_numpy(bias[begin:end].copy())
            begin = end
    return found


def lay(spec: DQNTrainer, net: Network, tensors: Weights, flat: np.ndarray) -> None:
    """Put the survivors of what is given by name into an array that lies like the network."""
    net.fill(flat, [whole(tensors, group) for group in groups(spec)])


def sources(net: Network, target: Network) -> np.ndarray:
    """Of each number of a target, its place in the online network, or -1."""
    found = np.full(len(target.values), -1)
    pairs = zip(
        (*net.packed.weights, *net.packed.biases),
        (*target.packed.weights, *target.packed.biases),
        strict=True,
    )
    for ours, theirs in pairs:
        places = np.full(int(np.prod(ours.shape)), -1)
        places[ours.own] = ours.flat
        found[theirs.flat] = places[theirs.own]
    return found
