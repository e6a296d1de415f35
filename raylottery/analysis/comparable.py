"""What can be compared with what, and where; whatever cannot is refused, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from raylottery.analysis.cells import TICKET, Cells, Pairing
from raylottery.analysis.fields import say
from raylottery.analysis.matched import ladder
from raylottery.analysis.words import Speech
from raylottery.errors import UsageError, did_you_mean


def one_measure(cells: Cells) -> str:
    measures = sorted(set(cells.curves.table["metric"]))
    if len(measures) > 1:
        raise UsageError(
            f"not comparable: some rounds measure {' and others '.join(measures)}. "
            "Compare the sweeps one at a time."
        )
    return measures[0]


def chosen_pairings(values: Sequence[str], by: str, against: str | None) -> list[Pairing]:
    """Every (value, reference) to compare."""
    if against is None:
        if by == "control":
            return [(TICKET, control) for control in values if control != TICKET]
        return [(value, values[0]) for value in values[1:]]
    reference = next((value for value in values if against in (value, say(value))), None)
    if reference is None:
        known = [say(value) for value in values]
        raise UsageError(f"{by} is never {against}. {did_you_mean(against, known)}")
    return [(value, reference) for value in values if value != reference]


def refuse_unequal_networks(cells: Cells, pairings: Sequence[Pairing], speech: Speech) -> None:
    prunable = cells.wide(cells.curves.table["prunable"])
    for value, reference in pairings:
        sides = prunable[[value, reference]].dropna()
        unequal = sides[sides[value] != sides[reference]]
        if len(unequal):
            left, right = (f"{count:,.0f}" for count in unequal.iloc[0])
            raise UsageError(
                f"not comparable at equal density: {speech.names[value]} prunes among {left} "
                f"parameters, {speech.names[reference]} among {right}. Compare values that "
                "prune the same set."
            )


def chosen_densities(
    cells: Cells,
    pairings: Sequence[Pairing],
    by: str,
    asked: float | Sequence[float] | None,
) -> tuple[float, ...]:
    """Where to compare: as asked, or the usual densities that all compared arms have passed."""
    lowest, highest = (cells.wide(cells.curves.table[end]) for end in ("lowest", "highest"))
    reaches = []
    for sides in map(list, pairings):
        reach = pd.DataFrame(
            {
                "lowest": lowest[sides].max(axis=1, skipna=False),
                "highest": highest[sides].min(axis=1, skipna=False),
            }
        ).dropna()
        reaches.append(reach[reach["lowest"] <= reach["highest"]])
    if all(reach.empty for reach in reaches):
        raise UsageError(
            "no pair of lineages has finished rounds at the same density yet. See "
            "`raylottery status NAME` for what is done."
        )
    densities = [] if asked is None else [asked] if isinstance(asked, (int, float)) else asked
    if not densities:
        # An arm reaches as far as its deepest seed: the seeds still on their way are missing.
        arms = [
            reach.groupby("context").agg({"lowest": "min", "highest": "max"}) for reach in reaches
        ]
        return ladder(
            max(arm["lowest"].max() for arm in arms), min(arm["highest"].min() for arm in arms)
        )
    least = min(reach["lowest"].min() for reach in reaches)
    most = max(reach["highest"].max() for reach in reaches)
    return tuple(reached(density, least, most, by) for density in densities)


def reached(density: float, least: float, most: float, by: str) -> float:
    """A density that was measured; either end goes by the three digits that tables give it."""
    if least <= density <= most:
        return float(density)
    ends = {f"{end:.3g}": float(end) for end in (least, most)}
    if f"{density:.3g}" in ends:
        return ends[f"{density:.3g}"]
    where = f"from {' to '.join(ends)}" if len(ends) > 1 else f"at {least:.3g} alone"
    raise UsageError(
        f"density {density:g} is outside the data: both sides of a comparison by {by} were "
        f"measured {where}. (A density is a share: 0.1 for 10 %.)"
    )
