"""The critical density: the lowest at which a score still stays within a margin of dense.

Each seed is compared with its own dense round. From the densest round on, the mean loss over
seeds is followed until it first exceeds the margin; between two rounds it is linear in log
density, as everywhere. The interval holds the densities at which the seeds do not tell on which
side of the margin the mean loss is: it ends where Student's interval of the loss leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from raylottery.analysis.stats.estimate import LEVEL, ROUNDING, Table, Values, spreads


@dataclass(frozen=True, kw_only=True)
class Critical:
    """A critical density with its 95 % interval."""

    density: float
    """the lowest density measured, where the score never leaves the margin (`beyond`)"""
    low: float | None
    """None also where the seeds allow that the margin is never left within what was measured"""
    high: float | None
    """None where there is no interval: one seed there, or seeds that all lose the same"""
    n: int
    """seeds measured where the score leaves the margin, or at the lowest density"""
    beyond: bool


def critical_density(densities: Values, scores: Table, *, margin: float) -> Critical:
    """The lowest density whose score stays within `margin` of dense, on all the way down to it.

    Args:
      densities: at which the scores were measured; the highest is the dense round.
      scores: [seeds, densities], the higher the better; NaN where a seed has none: it
        is followed down to its first missing score.
      margin: the loss that still counts as none, in the unit of the scores.
    """
    if margin < 0:
        raise ValueError(f"a margin is a loss that still counts as none, and not {margin}")
    order = np.argsort(densities)[::-1]
    table = np.asarray(scores, dtype=float)[:, order]
    loss = table[:, :1] - table
    followed = np.logical_and.accumulate(np.isfinite(loss), axis=1)
    counts = followed.sum(axis=0)
    if counts[0] == 0:
        raise ValueError("a critical density needs a seed with a dense score")
    reach = np.count_nonzero(counts)
    ladder, counts = np.asarray(densities, dtype=float)[order][:reach], counts[:reach]
    columns = [column[known] for column, known in zip(loss.T, followed[:, :reach].T, strict=False)]
    mean = np.array([column.mean() for column in columns])
    half = np.array([_half(column) for column in columns])

    scale = float(np.nanmax(np.abs(table)))
    mean[np.abs(mean) <= ROUNDING * scale] = 0.0
    left = np.flatnonzero(mean > margin)
    last = left[0] if len(left) else reach - 1
    density = _leaves(ladder, mean, margin)
    low, high = None, None
    if spreads(columns[last], scale=scale):
        low = _leaves(ladder, mean - half, margin)
        high = _leaves(ladder, mean + half, margin) or float(ladder[-1])
    return Critical(
        density=float(ladder[-1]) if density is None else density,
        low=low,
        high=high,
        n=int(counts[last]),
        beyond=density is None,
    )


def _half(losses: np.ndarray) -> float:
    """Half of Student's interval; one loss says nothing of the others."""
    n = len(losses)
    if n < 2:
        return np.inf
    return float(stdtrit(n - 1, (1 + LEVEL) / 2) * losses.std(ddof=1) / np.sqrt(n))


def _leaves(ladder: np.ndarray, loss: np.ndarray, margin: float) -> float | None:
    """The density at which a loss first exceeds the margin, going down; None if it never does."""
    above = np.flatnonzero(loss > margin)
    if len(above) == 0:
        return None
    after = above[0]
    before = after - 1
    share = (margin - loss[before]) / (loss[after] - loss[before])
    depth = np.log(ladder[before]) - np.log(ladder[after])
    return float(ladder[before] * np.exp(-share * depth))
