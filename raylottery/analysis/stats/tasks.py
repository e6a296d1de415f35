"""Scores of several tasks in one figure, by the published definitions of rliable.

Arrays are [runs, tasks]; one task may come as a plain sequence. Intervals are percentiles of a
stratified bootstrap: runs are drawn again within each task. That takes the columns as trained
apart from each other. Rounds of one lineage are not: average those within the seed first, and
use `group_mean`.
"""

from __future__ import annotations

import numpy as np

from raylottery.analysis.stats.bootstrap import RESAMPLES, percentiles, times_drawn
from raylottery.analysis.stats.estimate import Estimate, Table, Values


# Scores drawn at a time, so that resampling a large study stays within 50 MB or so.
BLOCK = 2_000_000


def normalised(
    scores: Values | Table, *, low: float | np.ndarray, high: float | np.ndarray
) -> np.ndarray:
    """Scores on a scale where the anchor `low` is 0 and `high` is 1; anchors may go by task."""
    if np.any(np.equal(low, high)) or not np.all(np.isfinite(low) & np.isfinite(high)):
        raise ValueError(f"anchors must be two different finite scores, not {low} and {high}")
    return (np.asarray(scores, dtype=float) - low) / (np.asarray(high) - low)


def iqm(values: Values | Table, axis: int | None = None) -> np.ndarray | float:
    """The interquartile mean: without the lowest and the highest quarter, rounded down to values.

    Three values or fewer lose none: theirs is the mean.
    """
    return _iqm(np.array(values, dtype=float), axis)


def stratified_iqm(
    scores: Values | Table, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The interquartile mean over all runs and tasks; `n` is the runs of a task."""
    table = _by_task(scores)
    runs, tasks = table.shape
    generator = np.random.default_rng(seed)
    step = max(1, BLOCK // table.size)
    figures = np.empty(resamples)
    for begin in range(0, resamples, step):
        block = figures[begin : begin + step]
        drawn = generator.integers(0, runs, (len(block), runs, tasks))
        block[:] = _iqm(table[drawn, np.arange(tasks)].reshape(len(block), -1), axis=1)
    low, high = percentiles(figures, scale=float(np.abs(table).max()))
    return Estimate(mean=float(iqm(table)), low=low, high=high, n=runs)


def probability_of_improvement(
    x: Values | Table, y: Values | Table, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """How probable it is that a run of `x` scores above one of `y`, averaged over tasks.

    A tie counts half, so 0.5 is no improvement. Runs that do not overlap at all give 0 or 1,
    and no interval.
    """
    left, right = _by_task(x), _by_task(y)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"both sides need the same tasks: {left.shape[1]}, {right.shape[1]}")
    wins, drawn = 0.0, np.zeros(resamples)
    for task, (ours, theirs) in enumerate(zip(left.T, right.T, strict=True)):
        beats = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        times = times_drawn(len(ours), resamples, seed, task, 0)
        their_times = times_drawn(len(theirs), resamples, seed, task, 1)
        wins += beats.mean()
        drawn += ((times @ beats) * their_times).sum(axis=1) / beats.size
    tasks = left.shape[1]
    low, high = percentiles(drawn / tasks, scale=1.0)
    return Estimate(
        mean=float(wins / tasks), low=low, high=high, n=min(len(left), len(right)), null=0.5
    )


def _by_task(scores: Values | Table) -> np.ndarray:
    table = np.asarray(scores, dtype=float)
    return table[:, None] if table.ndim == 1 else table


def _iqm(table: np.ndarray, axis: int | None) -> np.ndarray | float:
    """Sorts in place, for the arrays of resamples are large."""
    rows = table.reshape(1, -1) if axis is None else np.moveaxis(table, axis, -1)
    rows.sort(axis=-1)
    cut = rows.shape[-1] // 4
    means = rows[..., cut : rows.shape[-1] - cut].mean(axis=-1)
    return float(means[0]) if axis is None else means
