"""What scores of a few seeds are worth: estimates with intervals, tests, critical densities.

Seeds are the sample everywhere. What is computed, and how often its intervals hold, is in
docs/statistics.md.
"""

from __future__ import annotations

from raylottery.analysis.stats.critical import Critical, critical_density
from raylottery.analysis.stats.estimate import LEVEL, Estimate
from raylottery.analysis.stats.exact import group_median, holm, permutation_p
from raylottery.analysis.stats.means import (
    group_mean,
    paired_difference,
    seeds_needed,
    unpaired_difference,
)
from raylottery.analysis.stats.tasks import (
    iqm,
    normalised,
    probability_of_improvement,
    stratified_iqm,
)


__all__ = [
    "Estimate",
    "LEVEL",
    "group_mean",
    "group_median",
    "paired_difference",
    "unpaired_difference",
    "seeds_needed",
    "permutation_p",
    "holm",
    "normalised",
    "iqm",
    "stratified_iqm",
    "probability_of_improvement",
    "Critical",
    "critical_density",
]
