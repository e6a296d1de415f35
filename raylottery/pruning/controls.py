"""Controls: a ticket altered in one stated way.

A control names where its mask and its weights come from (`raylottery.spec.controls`):

    mask      imp               the ticket's own
              permuted-layer    shuffled within each layer: the layers' counts stay
              permuted-global   drawn over all layers jointly: only the total stays
              random-layerwise  the one that is given: it was drawn at random when it was pruned
              random-erk
    weights   ticket            the snapshot's values, each in its place
              permuted-layer    the ticket's surviving values of a layer, shuffled over the
                                positions that survive in the control
              reinit            a fresh initialisation, biases, norms and buffers included
              sign-constant     the snapshot's signs, each at its layer's root mean square
              sign-kept         a fresh initialisation with the snapshot's signs

A small-dense network is another one, with weights of its own: there is nothing to alter.

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
    match sources.weights:
        case "reinit":
            weights = fresh
        case "permuted-layer":
            weights = permuted_values(weights, masks, altered, generator)
        case "sign-constant":
            weights = signed_constants(weights, masks)
        case "sign-kept":
            weights = signed_afresh(weights, masks, fresh)
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
    "random-layerwise": imp,
    "random-erk": imp,
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


def signed_constants(weights: Mapping[str, Tensor], masks: Masks) -> dict[str, Tensor]:
    """In each masked layer the signs of its values, all at the root mean square of the layer."""
    constant = dict(weights)
    for name in masks:
        values = weights[name].detach()
        constant[name] = values.sign() * values.double().square().mean().sqrt().to(values.dtype)
    return constant


def signed_afresh(
    weights: Mapping[str, Tensor], masks: Masks, fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Another initialisation, with the signs of `weights` in the masked layers."""
    signed = dict(fresh)
    for name in masks:
        signed[name] = fresh[name].detach().abs().copysign(weights[name].detach())
    return signed


def shuffled(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """The entries of a tensor in random order."""
    # Drawn on the CPU, so that a seed means the same on every device.
    order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
    return tensor.flatten()[order].reshape(tensor.shape)
