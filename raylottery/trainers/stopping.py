"""Stop rules: when the search for the next ticket ends.

A rule ends the search, not the measurement. The next ticket is drawn from the weights at the stop;
the training goes on to its full length for the score, unless `stop.evaluate` is at-stop.

Most rules go by measurements, of which higher is better: the validation accuracy of a classifier,
the return of an agent that acts greedily. Patience goes by a classifier's validation loss. The
others go by the masks that pruning the weights of that moment would give, and end the search once
these have settled. No rule is ever told of anything a score is taken from, such as a test set.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

from raylottery.pruning.masks import Masks
from raylottery.spec import Stop
from raylottery.trainers.base import Start, Weights


class Rule(Protocol):
    """What ends a search."""

    goes_by: ClassVar[Literal["values", "losses", "masks"]] = "values"
    """What it is told of."""

    def __init__(self, stop: Stop): ...

    def met(self, seen: Any, /) -> bool:
        """Whether the search ends with this measurement, or with this mask."""
        ...


class Length(Rule):
    """Nothing ends the search before the training does."""

    def __init__(self, stop: Stop):
        pass

    def met(self, value: float) -> bool:
        return False


class Solved(Rule):
    """`hold` measurements in a row reach the threshold."""

    def __init__(self, stop: Stop):
        assert stop.threshold is not None
        self.threshold = stop.threshold
        self.hold = stop.hold
        self.in_a_row = 0

    def met(self, value: float) -> bool:
        self.in_a_row = self.in_a_row + 1 if value >= self.threshold else 0
        return self.in_a_row >= self.hold


class Target(Rule):
    """A measurement reaches the threshold."""

    def __init__(self, stop: Stop):
        assert stop.threshold is not None
        self.threshold = stop.threshold

    def met(self, value: float) -> bool:
        return value >= self.threshold


class Plateau(Rule):
    """`patience` measurements in a row are no better, by more than `least`, than the best before.

    Small gains add up: each is measured against the best that counted as better, so a slow climb
    is a climb.
    """

    def __init__(self, stop: Stop):
        self.patience = stop.patience
        self.least = stop.least
        self.best = -math.inf
        self.without_better = 0

    def met(self, value: float) -> bool:
        if value > self.best + self.least:
            self.best = value
            self.without_better = 0
        else:
            self.without_better += 1
        return self.without_better >= self.patience


class Patience(Plateau):
    """`patience` losses in a row are no lower, by more than `least`, than the lowest before."""

    goes_by = "losses"

    def met(self, value: float) -> bool:
        return super().met(-value)


class MaskDistance(Rule):
    """The newest mask lies within a distance of each of the `window - 1` before it: early-bird."""

    goes_by = "masks"

    def __init__(self, stop: Stop):
        self.within = stop.within
        self.masks: deque[Masks] = deque(maxlen=stop.window)

    def met(self, masks: Masks) -> bool:
        self.masks.append(masks)
        *others, newest = self.masks
        full = len(self.masks) == self.masks.maxlen
        return full and all(distance(newest, other) <= self.within for other in others)


class MaskDifference(Rule):
    """The newest mask lies within a distance of the one before it."""

    goes_by = "masks"

    def __init__(self, stop: Stop):
        self.within = stop.within
        self.before: Masks | None = None

    def met(self, masks: Masks) -> bool:
        before, self.before = self.before, masks
        return before is not None and distance(masks, before) <= self.within


RULES: dict[str, type[Rule]] = {
    "length": Length,
    "solved": Solved,
    "target": Target,
    "plateau": Plateau,
    "patience": Patience,
    "mask-distance": MaskDistance,
    "mask-difference": MaskDifference,
}


def distance(newest: Masks, other: Masks) -> float:
    """The entries in which two masks differ, as a share of those that the newest keeps.

    Early-bird's own distance is a share of all entries, which suits a dense network that is pruned
    once. Over many rounds most entries are gone from both masks, and a share of all would fall to
    nothing with the density, whatever became of the survivors. An entry that is kept in place of
    another counts twice, as both differ: masks of one size with nothing in common are 2 apart.
    """
    differing = sum(int((mask ^ other[name]).count_nonzero()) for name, mask in newest.items())
    return differing / newest.kept


class Search:
    """The search of one training for the next ticket, until its rule ends it.

    A trainer tells it of each measurement and of each moment at which masks may be looked at, and
    keeps a copy of the weights when the answer is True, which it is once.
    """

    def __init__(self, stop: Stop, start: Start):
        self.stop = stop
        self.rule = RULES[stop.rule](stop)
        self.next_masks = start.next_masks
        self.goes_on = start.searching
        """False too where no ticket will be drawn: there is nothing to search for."""
        self.stopped_by = "length"
        self.step: int | None = None
        """Where the rule ended the search."""
        self.seen: deque[tuple[int, float | Masks]] = deque(
            maxlen=stop.window if self.rule.goes_by == "masks" else None
        )
        """What the rule was told, and where: all that it can still go by."""

    @property
    def watches_masks(self) -> bool:
        """Whether it still waits for masks to settle."""
        return self.goes_on and self.rule.goes_by == "masks"

    @property
    def ends_training(self) -> bool:
        """Whether the rule has ended the training together with the search."""
        return self.step is not None and self.stop.evaluate == "at-stop"

    def measured(self, step: int, value: float, loss: float | None = None) -> bool:
        """Whether the rule ends the search here, going by a measurement."""
        if not self.goes_on or self.rule.goes_by == "masks":
            return False
        if self.rule.goes_by == "values":
            return self.told(step, value)
        assert loss is not None, "the sweep file's model lets no agent go by losses"
        return self.told(step, loss)

    def settled(self, step: int, weights: Callable[[], Weights]) -> bool:
        """Whether the rule ends the search here, going by the mask drawn from these weights."""
        if not self.watches_masks:
            return False
        assert self.next_masks is not None
        return self.told(step, self.next_masks(weights()))

    def told(self, step: int, seen: float | Masks) -> bool:
        """Whether the rule ends the search with what it is told of here."""
        self.seen.append((step, seen))
        if not self.rule.met(seen):
            return False
        self.goes_on = False
        self.stopped_by = self.stop.rule
        self.step = step
        return True
