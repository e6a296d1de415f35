"""Prune: score the entries, then let the scope choose what goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from raylottery.errors import NothingToPrune, TrainingError
from raylottery.pruning.masks import Masks
from raylottery.pruning.scopes import SCOPES, counted
from raylottery.pruning.scores import SCORES, STEPS, Evidence, Untrained
from raylottery.sizes.counts import Rates, layer_rates, layerwise_counts, lost
from raylottery.sizes.prunable import Prunable, losing
from raylottery.spec.sweep import Prune


def prune(
    weights: Mapping[str, Tensor],
    masks: Masks,
    how: Prune,
    prunable: Prunable,
    seed: int,
    untrained: Untrained | None = None,
) -> Masks:
    """The masks of the next round: nested in `masks`, with exact counts.

    `untrained` is looked at by scores that prune at initialisation, or compare with it.

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
    refuse_infinite("trained weights", candidates, "the training diverged. Lower trainer.lr.")
    left = pool
    for fraction, rates in steps(pool, how, layer_rates(how, prunable)):
        seen = Evidence(
            trained=candidates, masks=Masks({**masks, **left}), seed=seed, untrained=untrained
        )
        scores = SCORES[how.score](seen)
        refuse_infinite(f"{how.score} scores", scores, "take another prune.score.")
        left = SCOPES[how.scope](scores, left, fraction, rates)
    if left.kept in (0, pool.kept):
        outcome = "leave none" if left.kept == 0 else "prune none"
        raise NothingToPrune(
            f"a fraction of {how.fraction} would {outcome} of the {pool.kept} surviving weights. "
            "Lower prune.rounds or change prune.fraction."
        )
    return Masks({**masks, **left})


def steps(pool: Masks, how: Prune, rates: Rates) -> Iterator[tuple[float, Rates]]:
    """The shares that go in each step of a round: equal ones, up to whole numbers of entries.

    After the last, as many are left as if all had gone at once.
    """
    num = STEPS.get(how.score, 1)
    if num == 1:
        yield how.fraction, rates
        return
    layers = counted(pool)
    before = {"": pool.kept, **layers}
    after = {
        "": pool.kept - lost(pool.kept, how.fraction),
        **layerwise_counts(layers, how.fraction, rates),
    }
    left = before
    for step in range(1, num + 1):
        now = {
            name: round(count * (after[name] / count) ** (step / num)) if count else 0
            for name, count in before.items()
        }
        if now != left:
            shares = {name: 1 - now[name] / count if count else 0 for name, count in left.items()}
            yield shares.pop(""), shares
        left = now


def refuse_infinite(what: str, values: Mapping[str, Tensor], mend: str) -> None:
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"the {what} of {name!r} are not all finite, so they cannot be ranked: {mend}"
            )
