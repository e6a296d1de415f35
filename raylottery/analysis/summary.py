"""The table at the end of a run: each arm and control at a few densities, over seeds.

Nothing is paired here; differences between rows are what `compare` is for.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from raylottery.analysis.cells import read_curves
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ladder
from raylottery.analysis.stats import Estimate, group_mean


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One arm's tickets, or one of its controls."""

    arm: str
    arm_label: str
    control: str
    stored_as: str
    """what the score measures: `accuracy` or `return`"""
    seeds: int
    cells: tuple[Estimate | None, ...]
    """one for each density of the summary; None where no seed has passed it"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean scores and their intervals, arms by densities."""

    densities: tuple[float, ...]
    rows: tuple[SummaryRow, ...]

    def to_rows(self) -> list[dict[str, object]]:
        """One plain dictionary for each row and density that has a score."""
        return [
            {
                "arm": row.arm,
                "arm_label": row.arm_label,
                "control": row.control,
                "stored_as": row.stored_as,
                "density": density,
                "mean": cell.mean,
                "low": cell.low,
                "high": cell.high,
                "n": cell.n,
            }
            for row in self.rows
            for density, cell in zip(self.densities, row.cells, strict=True)
            if cell is not None
        ]


def summary(frame: Frame) -> Summary:
    """Scores of every arm and control, dense and at the usual densities that all arms reached."""
    measured = read_curves(frame, "score")
    lineages = frame.lineages.drop_duplicates("lineage").set_index("lineage")
    # Two sweeps may share an arm and call it by other axes: the first one's name serves.
    labels = lineages.groupby("arm")["arm_label"].first()
    table = measured.table.join(lineages["arm"], on="lineage").join(labels, on="arm")
    table["branch"] = table["control"] != "ticket"
    group = ["arm_label", "arm", "branch", "control", "metric"]
    # Controls may be drawn at some rounds alone.
    reach = table[~table["branch"]].groupby(group)["lowest"].min().max()
    densities = (1.0, *(density for density in ladder(reach, 1.0) if density < 1.0))
    table = table.assign(**{str(density): measured.at(density)[0] for density in densities})
    by_seed = table.groupby([*group, "seed"])[[str(density) for density in densities]].mean()
    rows = tuple(
        SummaryRow(
            arm=arm,
            arm_label=label,
            control=control,
            stored_as=stored_as,
            seeds=len(scores),
            cells=tuple(_cell(scores[column]) for column in scores),
        )
        for (label, arm, _, control, stored_as), scores in by_seed.groupby(level=group)
    )
    return Summary(densities=densities, rows=rows)


def _cell(scores: pd.Series) -> Estimate | None:
    known = scores.dropna()
    return group_mean(known.to_numpy()) if len(known) else None
