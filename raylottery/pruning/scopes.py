"""Scopes: how many entries each layer loses, given how many are to go.

Each scope takes scores, the present masks, the fraction of the survivors to prune and the layers
that have a rate of their own (which layerwise alone goes by), and returns masks nested in the
present ones. Counts are exact: of the survivors considered together, the
`round(fraction * kept)` with the lowest scores go, ties by position. Nothing is ever compared with
a threshold, which would miss the count wherever scores are tied (dead units, zeros). Where the
count is 0, as in a layer with few survivors, nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from raylottery.pruning.masks import Masks
from raylottery.sizes.counts import Rates, erk_counts, layerwise_counts, lost


Scores = Mapping[str, Tensor]
Scope = Callable[[Scores, Masks, float, Rates], Masks]


def without_lowest(score: Tensor, mask: Tensor, num_pruned: int) -> Tensor:
    """The mask less its `num_pruned` survivors of lowest score, ties by position."""
    if num_pruned == 0:
        return mask.clone()
    survivors = mask.flatten().nonzero().squeeze(1)
    scores = score.flatten()[survivors]
    last = scores.kthvalue(num_pruned).values  # selecting takes a fifth of sorting's time
    goes = scores < last
    tied = (scores == last).nonzero().squeeze(1)
    goes[tied[: num_pruned - int(goes.count_nonzero())]] = True
    kept = mask.flatten().clone()
    kept[survivors[goes]] = False
    return kept.reshape(mask.shape)


def globally(scores: Scores, masks: Masks, fraction: float, rates: Rates) -> Masks:
    """All layers compete in one pool; the output layer is one of them."""
    pooled = torch.cat([mask.flatten() for mask in masks.values()])
    pooled_scores = torch.cat([scores[name].flatten() for name in masks])
    kept = without_lowest(pooled_scores, pooled, lost(masks.kept, fraction))
    return Masks(unpooled(kept, masks))


def layerwise(scores: Scores, masks: Masks, fraction: float, rates: Rates) -> Masks:
    """Each layer loses the same fraction, or the one that is its own."""
    survivors = counted(masks)
    return thinned(scores, masks, survivors, layerwise_counts(survivors, fraction, rates))


def erk(scores: Scores, masks: Masks, fraction: float, rates: Rates) -> Masks:
    """Layers get Erdos-Renyi-kernel densities that together keep what the global scope keeps."""
    survivors = counted(masks)
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    target = masks.kept - lost(masks.kept, fraction)
    return thinned(scores, masks, survivors, erk_counts(shapes, survivors, target))


def counted(masks: Masks) -> dict[str, int]:
    """The survivors of each layer."""
    return {name: int(mask.count_nonzero()) for name, mask in masks.items()}


def thinned(
    scores: Scores, masks: Masks, survivors: Mapping[str, int], num_kept: Mapping[str, int]
) -> Masks:
    """Masks in which each layer keeps so many of its survivors, those of highest score."""
    return Masks(
        {
            name: without_lowest(scores[name], mask, survivors[name] - num_kept[name])
            for name, mask in masks.items()
        }
    )


def unpooled(pool: Tensor, masks: Masks) -> dict[str, Tensor]:
    """A flat tensor over all layers, cut back into the layers' shapes."""
    parts = pool.split([mask.numel() for mask in masks.values()])
    return {
        name: part.reshape(mask.shape)
        for (name, mask), part in zip(masks.items(), parts, strict=True)
    }


SCOPES: dict[str, Scope] = {"global": globally, "layerwise": layerwise, "erk": erk}
