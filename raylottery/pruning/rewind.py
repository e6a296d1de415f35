"""Rewind: a snapshot's weights under a mask.

The snapshot is a whole state_dict. Survivors, biases, norm parameters and buffers come out equal
to it bit for bit; pruned entries come out as +0.0. Nothing in the result shares memory with the
snapshot, so training the one never changes the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raylottery.pruning.masks import Masks


def apply_mask(weights: Mapping[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """The weights with every pruned entry at zero and all else as it was."""
    masks.fits(weights)
    return {
        # Filled rather than multiplied: a negative weight times zero would be -0.0.
        name: weight.detach().masked_fill(~masks[name].to(weight.device), 0.0)
        if name in masks
        else weight.detach().clone()
        for name, weight in weights.items()
    }
