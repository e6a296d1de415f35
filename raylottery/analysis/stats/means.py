"""Means and differences of means over seeds: Student t, Welch, and the bootstrap-t."""

from __future__ import annotations

import bisect
import math
from typing import Literal

import numpy as np
from scipy.special import ncfdtr, stdtr, stdtrit

from raylottery.analysis.stats.bootstrap import bootstrap_t
from raylottery.analysis.stats.estimate import (
    LEVEL,
    NO_INTERVAL,
    ROUNDING,
    Estimate,
    Interval,
    Values,
    spreads,
)


MOST_SEEDS = 1000


def group_mean(values: Values) -> Estimate:
    """The mean of one group and its interval, without a test against zero."""
    sample = np.asarray(values, dtype=float)
    low, high, _ = _student(sample, scale=float(np.abs(sample).max()))
    return Estimate(mean=float(sample.mean()), low=low, high=high, n=len(sample))


def paired_difference(
    values: Values,
    references: Values,
    *,
    interval: Literal["student", "bootstrap-t"] = "student",
    seed: int = 0,
) -> Estimate:
    """The mean of `values - references`, pair by pair, its interval and its p.

    Args:
      values: one figure for each seed.
      references: the other side of each pair, in the same order.
      interval: `bootstrap-t` follows the skew of the differences. With three pairs it has no
        end, and is left out; with four or five it is much wider than Student's.
      seed: of the bootstrap's resamples.
    """
    left, right = np.asarray(values, dtype=float), np.asarray(references, dtype=float)
    if left.shape != right.shape:
        raise ValueError(f"pairs need two sides: {len(left)} values, {len(right)} references")
    difference = left - right
    scale = float(max(np.abs(left).max(), np.abs(right).max()))
    difference[np.abs(difference) <= ROUNDING * scale] = 0.0
    if interval == "student":
        low, high, p = _student(difference, scale=scale)
    else:
        low, high, p = bootstrap_t(difference, scale=scale, seed=seed)
    return Estimate(mean=float(difference.mean()), low=low, high=high, n=len(difference), p=p)


def unpaired_difference(values: Values, references: Values) -> Estimate:
    """The difference of two groups' means with Welch's interval: seeds that are no pairs."""
    left, right = np.asarray(values, dtype=float), np.asarray(references, dtype=float)
    mean, n = float(left.mean() - right.mean()), min(len(left), len(right))
    scale = float(max(np.abs(left).max(), np.abs(right).max()))
    if n < 2 or not (spreads(left, scale=scale) or spreads(right, scale=scale)):
        return Estimate(mean=mean, low=None, high=None, n=n)
    errors = np.array([left.var(ddof=1) / len(left), right.var(ddof=1) / len(right)])
    freedom = errors.sum() ** 2 / (errors**2 / [len(left) - 1, len(right) - 1]).sum()
    low, high, p = _by_t(mean, math.sqrt(errors.sum()), float(freedom))
    return Estimate(mean=mean, low=low, high=high, n=n, p=p)


def seeds_needed(differences: Values, *, power: float = 0.8, tests: int = 1) -> int | None:
    """How many pairs a paired t-test needs to call this difference, if it is as estimated.

    As one of several `tests` it has to be surer: each is held to its part of 5 %. None where the
    estimate gives no answer (one pair, no spread, a mean of zero) or more than a thousand would
    not do.
    """
    sample = np.asarray(differences, dtype=float)
    if not spreads(sample, scale=float(np.abs(sample).max())):
        return None
    squared = float(sample.mean() / sample.std(ddof=1)) ** 2
    sizes = range(2, MOST_SEEDS + 1)
    chance = (1 - LEVEL) / tests
    place = bisect.bisect_left(sizes, power, key=lambda n: _power(n, squared, chance))
    return sizes[place] if place < len(sizes) else None


def _power(n: int, squared_effect: float, chance: float) -> float:
    """How often a paired t-test of n pairs calls an effect, in squared standard deviations."""
    # The square of a noncentral t is a noncentral F, which counts both tails at once.
    limit = stdtrit(n - 1, 1 - chance / 2) ** 2
    return float(1 - ncfdtr(1, n - 1, n * squared_effect, limit))


def _student(sample: np.ndarray, *, scale: float) -> Interval:
    if not spreads(sample, scale=scale):
        return NO_INTERVAL
    n = len(sample)
    return _by_t(float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(n), n - 1)


def _by_t(mean: float, error: float, freedom: float) -> tuple[float, float, float]:
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean / error)))
