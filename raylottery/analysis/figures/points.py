"""The points of a line: means over seeds at one density, with their intervals.

A point stands for a round. Where the lineages of a group differ in density after equally many
rounds, all are read at the highest of these densities, which every one of them has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from raylottery.analysis.figures.groups import Groups, placed
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND, curves
from raylottery.analysis.stats import LEVEL, group_mean
from raylottery.errors import NotFoundError, UsageError


TICKET = "ticket"

INTERVAL = f"{100 * LEVEL:.0f} % Student t intervals"


def table(frame: Frame, name: str) -> pd.DataFrame:
    """A table of the frame, each row once where sweeps share lineages."""
    try:
        rows = getattr(frame, name)
    except NotFoundError as error:
        raise UsageError(str(error)) from error
    if rows.empty:
        raise UsageError(
            f"the {name} of {', '.join(frame.names)} are empty: no round is finished. See "
            "`raylottery status` for what is done."
        )
    identity = {"rounds": ROUND, "curves": [*ROUND, "step", "split", "metric"]}
    return rows.drop_duplicates(identity.get(name, [*ROUND, "layer"]))


def rounds_of(frame: Frame, groups: Groups, *, shares: pd.DataFrame | None = None) -> pd.DataFrame:
    """All rounds, each with its `group`, controls under the names that comparisons give them.

    `shares` may replace the density: one row a round, its `share` of something else.
    """
    rounds = table(frame, "rounds")
    if shares is not None:
        share = rounds[ROUND].merge(shares, on=ROUND, how="left")["share"]
        rounds = rounds.assign(density=share.to_numpy()).dropna(subset="density")
    own = (rounds["control"] != TICKET) & (rounds["lineage_mode"] == "own")
    control = rounds["control"].mask(own, rounds["control"] + " (own)")
    return rounds.assign(group=placed(rounds, groups), control=control)


def seeds_at(
    rounds: pd.DataFrame,
    column: str,
    groups: Groups,
    densities: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row a seed at each point: group, control, density, seed and its value, NaN if unknown.

    The points are the rounds' own densities, or `densities`. A seed counts where all its lineages
    of the group have passed: a mean over some of them would change with which these are.
    """
    lineages = {group.key: group.lineages for group in groups}
    found = []
    for _, part in rounds.groupby(["group", "control"], sort=False, observed=True):
        key, control = part[["group", "control"]].iloc[0]
        planned = pd.Series(lineages[key]).value_counts().sort_index()
        measured = curves(part, metric=column)
        passed = part.groupby("round")["density"].max().sort_values(ascending=False)
        for density in passed if densities is None else densities:
            lines = measured.table[["seed", "lineage"]].assign(y=measured.at(density)[0])
            by_line = lines.groupby(["seed", "lineage"])["y"].mean().dropna()
            count = by_line.groupby("seed").size().reindex(planned.index)
            by_seed = by_line.groupby("seed").mean().reindex(planned.index)
            values = by_seed.where(count == planned).rename_axis("seed").rename("value")
            found.append(values.reset_index().assign(group=key, control=control, density=density))
    return pd.concat(found, ignore_index=True)


def points(
    rounds: pd.DataFrame,
    column: str,
    groups: Groups,
    densities: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row a point: group, control, density, mean, low, high, n, least and most of the seeds.

    Where no seed has a value the row is a gap, with n = 0.
    """
    by = ["group", "control", "density"]
    return pd.DataFrame(
        part[by].iloc[0].to_dict() | interval(part["value"].dropna().to_numpy())
        for _, part in seeds_at(rounds, column, groups, densities).groupby(by, sort=False)
    )


def interval(values: np.ndarray) -> dict[str, float]:
    """What is drawn of one value a seed: the mean, its interval, and how far the seeds reach."""
    if len(values) == 0:
        return dict.fromkeys(("mean", "low", "high", "least", "most"), np.nan) | {"n": 0}
    estimate = group_mean(values)
    return {
        "mean": estimate.mean,
        "low": np.nan if estimate.low is None else estimate.low,
        "high": np.nan if estimate.high is None else estimate.high,
        "n": estimate.n,
        "least": float(np.min(values)),
        "most": float(np.max(values)),
    }


def measure_of(rounds: pd.DataFrame) -> str:
    """What the scores measure: accuracy or return, not both."""
    measures = sorted(set(rounds["metric"]))
    if len(measures) > 1:
        raise UsageError(
            f"one axis cannot show both {' and '.join(measures)}. Draw the sweeps one at a time."
        )
    return measures[0]


def said(counts: Iterable[int]) -> str:
    """What is drawn and how many seeds it rests on; one seed gives no interval."""
    known = [count for count in counts if count]
    least, most = min(known), max(known)
    if most == 1:
        return "n = 1 seed, which gives no interval"
    count = f"{least}" if least == most else f"{least} to {most}"
    alone = ", none where there is one" if least == 1 else ""
    return f"means and {INTERVAL}, n = {count} seeds{alone}"
