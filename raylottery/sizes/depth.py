"""How many weights are left after each round, known before any is trained.

Counts are exact and follow from the shapes of the layers alone: which weights go depends on the
training, how many does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from raylottery.sizes.counts import erk_counts, layer_rates, layerwise_counts, lost
from raylottery.sizes.prunable import Prunable, losing
from raylottery.spec.sections import Prune


def kept_by_round(
    how: Prune, shapes: Mapping[str, Sequence[int]], prunable: Prunable
) -> Iterator[int]:
    """How many of the weights that rounds prune are left in round 0, 1, 2 and so on, without end.

    Args:
        how: the sweep's pruning.
        shapes: of the prunable parameters, in layer order.
        prunable: which they are.
    """
    rates = layer_rates(how, prunable)
    shapes = {name: shapes[name] for name in losing(how.only, prunable)}
    left = {name: prod(shape) for name, shape in shapes.items()}
    while True:
        total = sum(left.values())
        yield total
        target = total - lost(total, how.fraction)
        if how.scope == "layerwise":
            left = layerwise_counts(left, how.fraction, rates)
        elif how.scope == "erk":
            left = erk_counts(shapes, left, target)
        else:  # one pool, whose layers lose what the scores say
            left = {"all layers": target}
