"""Intervals from drawing seeds again: seeded, all resamples at once."""

from __future__ import annotations

import functools
import math

import numpy as np

from raylottery.analysis.stats.estimate import LEVEL, NO_INTERVAL, ROUNDING, Interval, spreads


RESAMPLES = 10_000

TAIL = (1 - LEVEL) / 2


def bootstrap_t(
    sample: np.ndarray, *, scale: float, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The t of resamples in place of Student's: each end errs as far as the resamples do.

    A resample of equal values has an infinite t. With few values so many resamples are such
    that the interval has no end.
    """
    if not spreads(sample, scale=scale):
        return NO_INTERVAL
    n, mean = len(sample), sample.mean()
    spread = sample - mean
    times = times_drawn(n, resamples, seed)
    shift = times @ spread / n
    variance = times @ spread**2 / n - shift**2
    variance[variance <= ROUNDING * sample.var()] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num(
            shift / np.sqrt(variance / (n - 1)), nan=0.0, posinf=np.inf, neginf=-np.inf
        )
    least, most = np.quantile(t, TAIL, method="lower"), np.quantile(t, 1 - TAIL, method="higher")
    if not np.isfinite([least, most]).all():
        return NO_INTERVAL
    error = sample.std(ddof=1) / math.sqrt(n)
    rarer = min((t >= mean / error).sum(), (t <= mean / error).sum())
    p = min(1.0, 2 * (rarer + 1) / (resamples + 1))
    return float(mean - most * error), float(mean - least * error), float(p)


def percentiles(figures: np.ndarray, *, scale: float) -> tuple[float, float] | tuple[None, None]:
    """The interval that holds the middle 95 % of resamples; none where they are all equal."""
    if not spreads(figures, scale=scale):
        return None, None
    low, high = np.quantile(figures, [TAIL, 1 - TAIL])
    return float(low), float(high)


@functools.lru_cache(maxsize=8)
def times_drawn(n: int, resamples: int, *seed: int) -> np.ndarray:
    """How often each of n values is in each resample, which is all that a sum over one needs.

    Kept, because the densities of a comparison mostly have equally many seeds.
    """
    generator = np.random.default_rng(seed)
    times = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    times.flags.writeable = False
    return times
