"""Scores: how much each entry is worth keeping. The lowest are pruned first.

A score is a plain function of what it may look at; it knows nothing of counts. Most look at what
the training made of the weights. Those that prune at initialisation look at the untrained network
instead, whatever was trained since:

    random                   nothing: uniform draws
    magnitude                |trained|
    initial-magnitude        |initial|
    magnitude-increase       |trained| - |initial|                   Zhou et al. 2019
    large-final-same-sign    max(0, trained * sign(initial))         Zhou et al. 2019
    snip                     |initial * gradient of the loss|        Lee et al. 2019
    grasp                    initial * Hessian * gradient            Wang et al. 2020
    synflow                  |initial| * gradient of the flow        Tanaka et al. 2020

SNIP and GraSP are of the dense network on one batch of training data, so their masks at all
densities are those of one ranking. GraSP's first to go are those without which the gradient is
longest: to the first order, half its squared norm falls by a weight's score when that weight goes.
SynFlow is of the masked network, without data: the gradient is that of the sum of
all outputs for an input of ones, every parameter at its absolute value, in double precision. A
round goes to its density in `STEPS` small ones, each ranked anew, or whole layers would go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raylottery.pruning.masks import Masks
from raylottery.pruning.rewind import apply_mask


class Untrained(Protocol):
    """The dense network before any training."""

    @property
    def weights(self) -> Mapping[str, Tensor]: ...

    def loss_gradients(self) -> Mapping[str, Tensor]:
        """Of the training's loss on its first batch."""
        ...

    def norm_gradients(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Of half the squared norm of the loss's gradient by some parameters: the product of the
        Hessian and the gradient."""
        ...

    def flow_gradients(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of the sum of all outputs for an input of ones, with these weights."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a score may look at."""

    trained: Mapping[str, Tensor]
    """The weights that may be pruned, as the training left them."""
    masks: Masks
    """Of all prunable parameters, as they are by now."""
    seed: int
    untrained: Untrained | None = None

    @property
    def beginning(self) -> Untrained:
        """The untrained network, for a score that looks at it."""
        assert self.untrained is not None, "this score needs the untrained network"
        return self.untrained


Score = Callable[[Evidence], dict[str, Tensor]]


def random(seen: Evidence) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seen.seed)
    return {
        # Drawn on the CPU, so that a seed means the same on every device.
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in seen.trained.items()
    }


def magnitude(seen: Evidence) -> dict[str, Tensor]:
    return {name: weight.detach().abs() for name, weight in seen.trained.items()}


def initial_magnitude(seen: Evidence) -> dict[str, Tensor]:
    initial = seen.beginning.weights
    return {name: initial[name].detach().abs() for name in seen.trained}


def magnitude_increase(seen: Evidence) -> dict[str, Tensor]:
    before = initial_magnitude(seen)
    return {name: after - before[name] for name, after in magnitude(seen).items()}


def large_final_same_sign(seen: Evidence) -> dict[str, Tensor]:
    initial = seen.beginning.weights
    return {
        name: (weight.detach() * initial[name].detach().sign()).clamp(min=0)
        for name, weight in seen.trained.items()
    }


def snip(seen: Evidence) -> dict[str, Tensor]:
    initial, gradients = seen.beginning.weights, seen.beginning.loss_gradients()
    return {name: (initial[name].detach() * gradients[name]).abs() for name in seen.trained}


def grasp(seen: Evidence) -> dict[str, Tensor]:
    initial, gradients = seen.beginning.weights, seen.beginning.norm_gradients(tuple(seen.masks))
    return {name: initial[name].detach() * gradients[name] for name in seen.trained}


def synflow(seen: Evidence) -> dict[str, Tensor]:
    masked = apply_mask(seen.beginning.weights, seen.masks)
    absolute = {
        name: weight.double().abs() if weight.is_floating_point() else weight
        for name, weight in masked.items()
    }
    gradients = seen.beginning.flow_gradients(absolute)
    return {name: absolute[name] * gradients[name] for name in seen.trained}


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "random": random,
    "initial-magnitude": initial_magnitude,
    "magnitude-increase": magnitude_increase,
    "large-final-same-sign": large_final_same_sign,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
}

STEPS = {"synflow": 100}
"""Of a round, between two of which the scores are looked at again; 1 for those not named."""
