"""Means, paired differences and what they are worth: Student t over seeds, nothing else.

An interval needs spread. One value has none, and values that are all equal show none, so both
give a mean without interval and without p: better no figure than a certain one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit


LEVEL = 0.95

# Differences of equal scores computed along two ways differ by rounding alone.
ROUNDING = 1e-12

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval; `p` is two-sided, for a mean of zero."""

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None

    @property
    def tells(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def group_mean(values: Values) -> Estimate:
    """The mean of one group and its interval, without a test against zero."""
    sample = np.asarray(values, dtype=float)
    low, high, _ = _student(sample, scale=float(np.abs(sample).max()))
    return Estimate(mean=float(sample.mean()), low=low, high=high, n=len(sample))


def paired_difference(values: Values, references: Values) -> Estimate:
    """The mean of `values - references`, pair by pair, its interval and its p."""
    left, right = np.asarray(values, dtype=float), np.asarray(references, dtype=float)
    if left.shape != right.shape:
        raise ValueError(f"pairs need two sides: {len(left)} values, {len(right)} references")
    difference = left - right
    scale = float(max(np.abs(left).max(), np.abs(right).max()))
    difference[np.abs(difference) <= ROUNDING * scale] = 0.0
    low, high, p = _student(difference, scale=scale)
    return Estimate(mean=float(difference.mean()), low=low, high=high, n=len(difference), p=p)


def _student(
    sample: np.ndarray, *, scale: float
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Interval and p of a mean; none where fewer than two values or no spread among them."""
    n = len(sample)
    if n < 2 or np.ptp(sample) <= ROUNDING * scale:
        return None, None, None
    mean = float(sample.mean())
    error = float(sample.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(n - 1, -abs(mean / error)))
