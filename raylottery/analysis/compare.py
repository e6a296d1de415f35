"""One field's values against each other: paired by seed, at matched density, with a sentence.

A pair is two lineages with the same seed and the same values of every other field (for controls:
a ticket and its control in one lineage). Both are read at the same *realised* density.
Differences are averaged within a seed first, over the other axes, because the arms of a seed
share their dense network and are no independent evidence: n counts seeds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from raylottery.analysis.cells import METRICS, TICKET, Cells, control_cells, field_cells
from raylottery.analysis.fields import say
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ladder
from raylottery.analysis.stats import paired_difference
from raylottery.analysis.words import Speech, speech_for
from raylottery.errors import UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A value minus its reference at one density, in the unit that the rounds store."""

    density: float
    value: str
    reference: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """seeds with at least one pair"""
    p: float | None = None
    mean_value: float | None = None
    mean_reference: float | None = None
    pairs: int = 0
    missing: int
    """pairs that the sweep plans and that are not measured at this density"""
    updates_value: float | None = None
    updates_reference: float | None = None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The answer of `compare`: effects by density, and what to bear in mind about them."""

    by: str
    metric: str
    """the column of the rounds"""
    stored_as: str
    """what that column measures: `accuracy` or `return`"""
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person would say, one for each effect."""
        return tuple(effect.sentence for effect in self.effects)

    def to_rows(self) -> list[dict[str, object]]:
        """One plain dictionary for each effect."""
        head = {"by": self.by, "metric": self.metric, "stored_as": self.stored_as}
        return [head | dataclasses.asdict(effect) for effect in self.effects]


def compare(
    frame: Frame,
    by: str,
    *,
    at_density: float | Sequence[float] | None = None,
    metric: str = "score",
    against: str | None = None,
) -> Comparison:
    """Compares the values of `by` (a field of the spec, or `control`) with a reference.

    Args:
      frame: what was loaded.
      by: a field of the spec such as `prune.scope`, `arm_label` or `control`.
      at_density: where to compare; the usual densities that every arm reached if left out.
      metric: a score column of the rounds.
      against: the reference; the first value as people list them if left out. Tickets are
        compared with each control.
    """
    if metric not in METRICS:
        raise UsageError(f"no score column {metric!r}. {did_you_mean(metric, METRICS)}")
    cells = control_cells(frame, metric) if by == "control" else field_cells(frame, by, metric)
    stored_as = _one_measure(cells)
    pairings = _pairings(cells.values, by, against)
    planned = {pairing: cells.planned_pairs(*pairing) for pairing in pairings}
    speech = speech_for(cells.values, by=by, metric=metric, stored_as=stored_as)
    _refuse_unequal_networks(cells, pairings, speech)
    effects = []
    for density in _densities(cells, pairings, by, at_density):
        score, updates = (cells.wide(figures) for figures in cells.curves.at(density))
        for value, reference in pairings:
            measured = score[[value, reference]].dropna()
            pairs = planned[value, reference]
            effects.append(_effect(measured, updates, pairs, density=density, speech=speech))
    notes = cells.notes
    if len(effects) > 1:
        notes += (
            f"These are {len(effects)} comparisons; each interval and p stands for itself alone.",
        )
    return Comparison(
        by=by, metric=metric, stored_as=stored_as, effects=tuple(effects), notes=notes
    )


def _effect(
    measured: pd.DataFrame, updates: pd.DataFrame, planned: int, *, density: float, speech: Speech
) -> Effect:
    """The finding about a value and its reference, the two columns of the paired scores."""
    value, reference = measured.columns
    missing = planned - len(measured)
    found = Effect(
        density=density,
        value=say(value),
        reference=say(reference),
        pairs=len(measured),
        missing=missing,
        sentence=speech.nothing(density, value, reference, planned),
    )
    if measured.empty:
        return found
    by_seed = measured.groupby("seed").mean()
    estimate = paired_difference(by_seed[value].to_numpy(), by_seed[reference].to_numpy())
    trained = updates.loc[measured.index].mean()
    sentences = (
        speech.finding(estimate, density, value, reference),
        speech.updates({side: trained[side] for side in (value, reference)}),
        speech.missing(missing, planned),
    )
    return dataclasses.replace(
        found,
        effect=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        p=estimate.p,
        mean_value=float(by_seed[value].mean()),
        mean_reference=float(by_seed[reference].mean()),
        updates_value=float(trained[value]),
        updates_reference=float(trained[reference]),
        sentence=" ".join(sentence for sentence in sentences if sentence),
    )


def _one_measure(cells: Cells) -> str:
    measures = sorted(set(cells.curves.table["metric"]))
    if len(measures) > 1:
        raise UsageError(
            f"not comparable: some rounds measure {' and others '.join(measures)}. "
            "Compare the sweeps one at a time."
        )
    return measures[0]


def _pairings(values: Sequence[str], by: str, against: str | None) -> list[tuple[str, str]]:
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


def _refuse_unequal_networks(
    cells: Cells, pairings: Sequence[tuple[str, str]], speech: Speech
) -> None:
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


def _densities(
    cells: Cells,
    pairings: Sequence[tuple[str, str]],
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
            "no pair of lineages has finished rounds at the same density yet. "
            "See `raylottery status` for what is done."
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
    for density in densities:
        if not least <= density <= most:
            raise UsageError(
                f"density {density:g} is outside the data: both sides of a comparison by {by} "
                f"were measured from {math.ceil(least * 1e4) / 1e4:g} to "
                f"{math.floor(most * 1e4) / 1e4:g}. (A density is a share: 0.1 for 10 %.)"
            )
    return tuple(float(density) for density in densities)
