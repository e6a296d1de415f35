"""Prune: score the trained weights, then let the scope choose what goes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from raylottery.errors import NothingToPrune, TrainingError
from raylottery.pruning.masks import Masks
from raylottery.pruning.prunable import Prunable, losing
from raylottery.pruning.scopes import SCOPES
from raylottery.pruning.scores import SCORES
from raylottery.spec.sweep import Prune


OUTPUT_RATES = {"half": 0.5, "full": 1.0}


def layer_rates(how: Prune, prunable: Prunable) -> dict[str, float]:
    """The share that a layer loses under scope layerwise, of those that have one of their own."""
    rates = {} if how.conv is None else dict.fromkeys(prunable.convolutions, how.conv)
    for name in prunable.output:
        rates[name] = rates.get(name, how.fraction) * OUTPUT_RATES[how.output]
    return rates


def prune(
    weights: Mapping[str, Tensor], masks: Masks, how: Prune, prunable: Prunable, seed: int
) -> Masks:
    """The masks of the next round: nested in `masks`, with exact counts.

    Raises TrainingError if a weight is not a finite number, and NothingToPrune if none would be
    pruned or left.
    """
    if set(masks) != set(prunable.names):
        raise ValueError("the masks are not those of the network's prunable parameters")
    # A store may give the layers back in another order, and order decides ties.
    masks = Masks({name: masks[name] for name in prunable.names})
    masks.fits(weights)
    pool = Masks({name: masks[name] for name in losing(how.only, prunable)})
    candidates = {name: weights[name] for name in pool}
    for name, weight in candidates.items():
        if not bool(torch.isfinite(weight).all()):
            raise TrainingError(
                f"the trained weights of {name!r} are not all finite, so they cannot be ranked: "
                "the training diverged. Lower trainer.lr."
            )
    scores = SCORES[how.score](candidates, seed)
    left = SCOPES[how.scope](scores, pool, how.fraction, layer_rates(how, prunable))
    if left.kept in (0, pool.kept):
        outcome = "leave none" if left.kept == 0 else "prune none"
        raise NothingToPrune(
            f"a fraction of {how.fraction} would {outcome} of the {pool.kept} surviving weights. "
            "Lower prune.rounds or change prune.fraction."
        )
    return Masks({**masks, **left})
