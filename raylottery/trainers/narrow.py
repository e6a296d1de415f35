"""Networks narrowed to as many weights as a ticket keeps, as in small-dense controls."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from raylottery.spec import Sweep
from raylottery.spec.narrow import hidden_widths, of_widths
from raylottery.trainers.survey import survey


def narrowed(study: Sweep, kept: int) -> Sweep:
    """The study with its hidden layers narrowed, all by one factor.

    The widest network of those whose prunable weights are at most `kept`, or the one with a single
    unit in its widest layer.
    """
    widths = hidden_widths(study.trainer)
    assert widths is not None
    most = max(widths)

    def at(width: int) -> Sweep:
        scaled = [max(1, round(own * width / most)) for own in widths]
        return study.model_copy(update={"trainer": of_widths(study.trainer, scaled)})

    def weights(width: int) -> int:
        return sum(survey(at(width)).prunable.values())

    sizes: Sequence[int] = range(1, most + 1)
    return at(max(1, bisect_right(sizes, kept, key=weights)))
