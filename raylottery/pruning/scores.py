"""Scores: how much each entry is worth keeping. The lowest are pruned first.

A score is a plain function of named weights and a seed; it knows nothing of masks or counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


Score = Callable[[Mapping[str, Tensor], int], dict[str, Tensor]]


def magnitude(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The absolute value of each weight; needs no seed."""
    return {name: weight.detach().abs() for name, weight in weights.items()}


def random(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Uniform draws, whatever the weights are."""
    generator = torch.Generator().manual_seed(seed)
    return {
        # Drawn on the CPU, so that a seed means the same on every device.
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in weights.items()
    }


SCORES: dict[str, Score] = {"magnitude": magnitude, "random": random}
