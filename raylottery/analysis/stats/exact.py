"""What holds without knowing how scores are distributed: signs, ranks, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr

from raylottery.analysis.stats.estimate import LEVEL, ROUNDING, Estimate, Values, spreads


# Two of the 2^n flips of n signs are the most extreme: below 6, no p reaches 0.05.
FEWEST = 6

# Up to here every flip is counted; beyond, so many are drawn.
MOST_FLIPPED = 40
DRAWS = 100_000


def group_median(values: Values) -> Estimate:
    """The median of one group; its interval runs between two of the values.

    Each value lies above the true median with even odds, whatever the distribution. Five values
    or fewer give no interval: even their whole range misses the median once in sixteen.
    """
    sample = np.sort(np.asarray(values, dtype=float))
    n = len(sample)
    # The chance that at most k values lie below the true median: the next value is above it.
    missed = bdtr(np.arange(n), n, 0.5) <= (1 - LEVEL) / 2
    low, high = None, None
    if missed.any() and spreads(sample, scale=float(np.abs(sample).max())):
        last = int(np.flatnonzero(missed)[-1])
        low, high = float(sample[last]), float(sample[n - 1 - last])
    return Estimate(mean=float(np.median(sample)), low=low, high=high, n=n)


def permutation_p(differences: Values) -> float | None:
    """How often random signs make the sum of paired differences as large as it is, both ways.

    Exact up to 40 pairs; of 100,000 drawn signs beyond. None below 6 pairs, where no outcome
    at all could reach 0.05.
    """
    sample = np.asarray(differences, dtype=float)
    n = len(sample)
    if n < FEWEST:
        return None
    least = abs(sample.sum()) - ROUNDING * np.abs(sample).sum()
    if least <= 0:
        return 1.0
    if n <= MOST_FLIPPED:
        # The sums of all flips of one half, held against those of the other: 2^(n/2), not 2^n.
        left, right = np.sort(_flipped(sample[: n // 2])), np.sort(_flipped(sample[n // 2 :]))
        above = (len(right) - np.searchsorted(right, least - left)).sum()
        return float(2 * above / 2.0**n)  # as many are as far below zero
    signs = np.random.default_rng(0).integers(0, 2, (DRAWS, n), dtype=np.int8) * 2 - 1
    reached = np.count_nonzero(np.abs(signs @ sample) >= least)
    return (reached + 1) / (DRAWS + 1)


def _flipped(differences: np.ndarray) -> np.ndarray:
    """The sums under every choice of signs."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Each p as it stands among all of them, by Holm's step-down; None stays and counts for none.

    The chance of one false call or more among the whole family is kept at the level, however
    its members depend on each other.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected
