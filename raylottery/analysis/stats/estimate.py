"""A figure with its interval, which may be missing: better no interval than a certain one.

An interval needs spread. One value has none, and values that are all equal show none, so both
give a figure without interval and without p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


LEVEL = 0.95

# Differences of equal scores computed along two ways differ by rounding alone.
ROUNDING = 1e-12

Values = Sequence[float] | np.ndarray

Table = Sequence[Sequence[float]] | np.ndarray

Interval = tuple[float, float, float] | tuple[None, None, None]
"""low, high and p"""

NO_INTERVAL = (None, None, None)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, or another figure, with its 95 % interval; `p` is two-sided, for `null`."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """seeds; of the smaller side where two groups differ"""
    p: float | None = None
    null: float = 0.0
    """what the figure would be if there were no effect"""

    @property
    def tells(self) -> bool:
        """Whether the interval excludes `null`."""
        known = self.low is not None and self.high is not None
        return known and not self.low <= self.null <= self.high


def spreads(sample: np.ndarray, *, scale: float) -> bool:
    """Whether a sample has at least two values that differ by more than rounding."""
    return len(sample) > 1 and bool(np.ptp(sample) > ROUNDING * scale)
