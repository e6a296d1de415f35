"""How many entries each layer loses or keeps, given how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raylottery.sizes.prunable import Prunable
from raylottery.spec.sections import Prune


Rates = Mapping[str, float]
"""The share that a layer loses, of those that have one of their own."""

OUTPUT_RATES = {"half": 0.5, "full": 1.0}


def layer_rates(how: Prune, prunable: Prunable) -> dict[str, float]:
    """The share that a layer loses under scope layerwise, of those that have one of their own."""
    rates = {} if how.conv is None else dict.fromkeys(prunable.convolutions, how.conv)
    for name in prunable.output:
        rates[name] = rates.get(name, how.fraction) * OUTPUT_RATES[how.output]
    return rates


def lost(survivors: int, rate: float) -> int:
    """How many of so many survivors go."""
    return round(rate * survivors)


def layerwise_counts(
    survivors: Mapping[str, int], fraction: float, rates: Rates
) -> dict[str, int]:
    """How many entries each layer keeps when each loses the same fraction, or its own."""
    return {name: num - lost(num, rates.get(name, fraction)) for name, num in survivors.items()}


def erk_counts(
    shapes: Mapping[str, Sequence[int]], survivors: Mapping[str, int], target: int
) -> dict[str, int]:
    """How many entries each layer keeps, `target` in all.

    Densities are proportional to sum(shape) / prod(shape), so counts are proportional to
    sum(shape). A layer whose share exceeds its survivors keeps them all, and the others share the
    rest anew, until no share is too large. Whole numbers by largest remainder, ties in layer
    order.
    """
    counts: dict[str, int] = {}
    open_layers = list(shapes)
    while open_layers:
        rest = target - sum(counts.values())
        dims = sum(sum(shapes[name]) for name in open_layers)
        full = [name for name in open_layers if rest * sum(shapes[name]) >= survivors[name] * dims]
        if not full:
            break
        counts |= {name: survivors[name] for name in full}
        open_layers = [name for name in open_layers if name not in full]
    if open_layers:
        shares = {name: divmod(rest * sum(shapes[name]), dims) for name in open_layers}
        counts |= {name: share for name, (share, _) in shares.items()}
        missing = target - sum(counts.values())
        for name in sorted(open_layers, key=lambda name: -shares[name][1])[:missing]:
            counts[name] += 1
    return counts
