"""Controls: a ticket altered in one stated way.

A control names where its mask and its weights come from (`raylottery.spec.controls`):

    mask      imp               the ticket's own
              permuted-layer    shuffled within each layer: the layers' counts stay
              permuted-global   drawn over all layers jointly: only the total stays
    weights   ticket            the snapshot's values, each in its place
              permuted-layer    the ticket's surviving values of a layer, shuffled over the
                                positions that survive in the control
              reinit            a fresh initialisation, biases, norms and buffers included

Pure functions: the same arguments give the same control, and the arguments are left alone. The
mask is drawn before the weights, so controls that share a mask source and a seed share the mask.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raylottery.errors import did_you_mean
from raylottery.pruning.masks import Masks
from raylottery.pruning.rewind import apply_mask
from raylottery.pruning.scopes import unpooled
from raylottery.spec.controls import CONTROLS


def alter(
    control: str,
    weights: Mapping[str, Tensor],
    masks: Masks,
    fresh: Mapping[str, Tensor],
    seed: int,
) -> tuple[dict[str, Tensor], Masks]:
    """The control of a ticket: its weights, zero where pruned, and its masks.

    Args:
        control: a name in CONTROLS.
        weights: the snapshot that the ticket rewinds to, unmasked.
        masks: the ticket's masks.
        fresh: another initialisation of the same network.
        seed: of the permutations.
    """
    if control not in CONTROLS:
        raise ValueError(f"unknown control {control!r}. {did_you_mean(control, CONTROLS)}")
    sources = CONTROLS[control]
    generator = torch.Generator().manual_seed(seed)
    altered = MASK_SOURCES[sources.mask](masks, generator)
    if sources.weights == "reinit":
        return apply_mask(fresh, altered), altered
    if sources.weights == "permuted-layer":
        weights = permuted_values(weights, masks, altered, generator)
    return apply_mask(weights, altered), altered


def imp(masks: Masks, generator: torch.Generator) -> Masks:
    """The ticket's own masks."""
    return masks


def permuted_within_layers(masks: Masks, generator: torch.Generator) -> Masks:
    """Each layer's mask, shuffled."""
    return Masks({name: shuffled(mask, generator) for name, mask in masks.items()})


def permuted_over_layers(masks: Masks, generator: torch.Generator) -> Masks:
    """All layers' masks, shuffled as one."""
    pool = torch.cat([mask.flatten() for mask in masks.values()])
    return Masks(unpooled(shuffled(pool, generator), masks))


MASK_SOURCES = {
    "imp": imp,
    "permuted-layer": permuted_within_layers,
    "permuted-global": permuted_over_layers,
}


def permuted_values(
    weights: Mapping[str, Tensor], masks: Masks, altered: Masks, generator: torch.Generator
) -> dict[str, Tensor]:
    """The values that `masks` keep in each layer, shuffled over those `altered` keeps there."""
    permuted = dict(weights)
    for name, mask in masks.items():
        permuted[name] = weights[name].detach().clone()
        permuted[name][altered[name]] = shuffled(weights[name].detach()[mask], generator)
    return permuted


def shuffled(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """The entries of a tensor in random order."""
    # Drawn on the CPU, so that a seed means the same on every device.
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return tensor.flatten()[order].reshape(tensor.shape)
