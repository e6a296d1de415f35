"""The values of a field against each other: paired by seed, at matched density, with a sentence.

A pair is two lineages with the same seed and the same values of every other field (for controls:
a ticket and its control in one lineage). Both are read at the same *realised* density.
Differences are averaged within a seed first, over the other axes, because the arms of a seed
share their dense network and are no independent evidence: n counts seeds.

Whoever looks at five densities finds one by chance more often: where several are compared, a
difference is called one only if it stands after Holm's correction over the densities of its pair.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raylottery.analysis.cells import (
    MATCHED,
    METRICS,
    Cells,
    Pairing,
    control_cells,
    field_cells,
)
from raylottery.analysis.comparable import (
    chosen_densities,
    chosen_pairings,
    one_measure,
    refuse_unequal_networks,
)
from raylottery.analysis.fields import say
from raylottery.analysis.frame import Frame
from raylottery.analysis.stats import Estimate, holm, paired_difference, seeds_needed
from raylottery.analysis.words import Corrected, Speech, speech_for
from raylottery.errors import NotFoundError, UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A value minus its reference at one density, in the unit that the rounds store."""

    density: float
    """or the share that stands for it: see `Comparison.matched`"""
    value: str
    reference: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """seeds with at least one pair"""
    p: float | None = None
    p_holm: float | None = None
    """corrected over the densities at which these two are compared"""
    seeds_needed: int | None = None
    """how many would tell a difference of this size, 4 times in 5, at as many densities"""
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
    """the field; several are joined by commas"""
    matched: str
    """what both sides have the same of: `density`, `flops` or `pruned`"""
    metric: str
    """the column of the rounds"""
    stored_as: str
    """what that column measures: `accuracy` or `return`"""
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()

    @property
    def tested(self) -> int:
        """At how many densities a pair of values has a p: what Holm's correction is over."""
        return max(
            Counter(
                (one.value, one.reference) for one in self.effects if one.p is not None
            ).values(),
            default=0,
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person would say, one for each effect."""
        return tuple(effect.sentence for effect in self.effects)

    def to_rows(self) -> list[dict[str, object]]:
        """One plain dictionary for each effect."""
        head = {
            "by": self.by,
            "matched": self.matched,
            "metric": self.metric,
            "stored_as": self.stored_as,
        }
        return [head | dataclasses.asdict(effect) for effect in self.effects]


def compare(
    frame: Frame,
    by: str | Sequence[str],
    *,
    at_density: float | Sequence[float] | None = None,
    metric: str = "score",
    against: str | None = None,
    matched: str = "density",
) -> Comparison:
    """Compares the values of `by` (fields of the spec, or `control`) with a reference.

    Args:
      frame: what was loaded.
      by: a field of the spec such as `prune.scope`, `arm_label` or `control`; of several fields
        each combination is a value.
      at_density: where to compare; the usual densities that every arm reached if left out.
      metric: a score column of the rounds.
      against: the reference; the first value as people list them if left out. Tickets are
        compared with each control.
      matched: `density`; `flops` for equal shares of the dense network's FLOPs; `pruned` for equal
        densities of the layers that each arm prunes.
    """
    asked = (by,) if isinstance(by, str) else tuple(dict.fromkeys(by))
    _refuse_unknown(asked, metric, matched)
    by = ", ".join(asked)
    if by == "control":
        cells = control_cells(frame, metric, matched)
    else:
        cells = field_cells(frame, asked, metric, matched)
    stored_as = one_measure(cells)
    speech = speech_for(cells.values, by=by, metric=metric, stored_as=stored_as, matched=matched)
    pairings, notes = _planned(cells, chosen_pairings(cells.values, by, against), by, speech)
    refuse_unequal_networks(cells, pairings, speech)
    densities = chosen_densities(cells, pairings, by, at_density)
    figures = {density: [cells.wide(f) for f in cells.curves.at(density)] for density in densities}
    by_pairing = [_effects(cells, pairing, figures, speech) for pairing in pairings]
    effects = tuple(effect for found in zip(*by_pairing, strict=True) for effect in found)
    found = Comparison(
        by=by,
        matched=matched,
        metric=metric,
        stored_as=stored_as,
        effects=effects,
    )
    notes += [*_caveats(found, len(pairings)), *_unfinished(frame, effects)]
    return dataclasses.replace(found, notes=tuple(notes))


def _refuse_unknown(asked: Sequence[str], metric: str, matched: str) -> None:
    if not asked:
        raise UsageError("no field to compare by. Name one, such as prune.scope, or control.")
    if metric not in METRICS:
        raise UsageError(f"no score column {metric!r}. {did_you_mean(metric, METRICS)}")
    if matched not in MATCHED:
        raise UsageError(f"cannot match by {matched!r}. {did_you_mean(matched, MATCHED)}")


def _planned(
    cells: Cells, pairings: Sequence[Pairing], by: str, speech: Speech
) -> tuple[list[Pairing], list[str]]:
    """The pairings of which the sweep plans a pair, and the notes with what is said of others."""
    never = [pairing for pairing in pairings if not cells.planned_pairs(*pairing)]
    said = [
        f"{speech.names[value]} is not compared with {speech.names[reference]}: no two lineages "
        f"have the same seed and differ in {by} alone."
        for value, reference in never
    ]
    if len(never) == len(pairings):
        raise UsageError(f"{said[0]} Choose another reference with --against.")
    return [pairing for pairing in pairings if pairing not in never], [*cells.notes, *said]


def _effects(
    cells: Cells,
    pairing: Pairing,
    figures: Mapping[float, Sequence[pd.DataFrame]],
    speech: Speech,
) -> list[Effect]:
    """The findings about a value and its reference, density by density."""
    sides = list(pairing)
    planned = cells.planned_pairs(*pairing)
    measured = [score[sides].dropna() for score, _ in figures.values()]
    found = [_estimate(rows) for rows in measured]
    ps = [None if one is None else one.estimate.p for one in found]
    corrected = [Corrected(p=p, of=len(ps) - ps.count(None)) for p in holm(ps)]
    return [
        _effect(density, pairing, planned, one, rows, updates, p, speech)
        for (density, (_, updates)), one, rows, p in zip(
            figures.items(), found, measured, corrected, strict=True
        )
    ]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the pairs at one density come to."""

    estimate: Estimate
    differences: np.ndarray
    """of each seed"""
    means: tuple[float, float]


def _estimate(measured: pd.DataFrame) -> _Found | None:
    """The difference over seeds of two columns of paired scores."""
    if measured.empty:
        return None
    value, reference = measured.groupby("seed").mean().to_numpy().T
    return _Found(
        estimate=paired_difference(value, reference),
        differences=value - reference,
        means=(float(value.mean()), float(reference.mean())),
    )


def _effect(
    density: float,
    pairing: Pairing,
    planned: int,
    found: _Found | None,
    measured: pd.DataFrame,
    updates: pd.DataFrame,
    corrected: Corrected,
    speech: Speech,
) -> Effect:
    value, reference = pairing
    if found is None:
        return Effect(
            density=density,
            value=say(value),
            reference=say(reference),
            missing=planned,
            sentence=speech.nothing(density, value, reference, planned),
        )
    estimate, missing = found.estimate, planned - len(measured)
    trained = updates.loc[measured.index].mean()
    needed = seeds_needed(found.differences, tests=max(1, corrected.of))
    sentences = (
        speech.finding(estimate, density, value, reference, corrected),
        speech.more(estimate, corrected, needed),
        speech.updates({side: trained[side] for side in pairing}),
        speech.missing(missing, planned),
    )
    return Effect(
        density=density,
        value=say(value),
        reference=say(reference),
        effect=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        p=estimate.p,
        p_holm=corrected.p,
        seeds_needed=needed,
        mean_value=found.means[0],
        mean_reference=found.means[1],
        pairs=len(measured),
        missing=missing,
        updates_value=float(trained[value]),
        updates_reference=float(trained[reference]),
        sentence=" ".join(sentence for sentence in sentences if sentence),
    )


def _caveats(found: Comparison, pairings: int) -> list[str]:
    """What several comparisons at once are not."""
    several = []
    if found.tested > 1:
        several.append(
            f"p is corrected over the {found.tested} densities (Holm); each interval stands for "
            "itself alone."
        )
    if pairings > 1:
        several.append(f"The {pairings} pairs of values are not corrected for each other.")
    return several


def _unfinished(frame: Frame, effects: Sequence[Effect]) -> list[str]:
    """Why pairs or all pruned rounds are missing: lineages that failed or are on their way."""
    if not any(effect.missing or effect.density == 1.0 for effect in effects):
        return []
    tickets = frame.read("rounds", ["lineage", "control", "round"]).to_pandas()
    done = tickets[tickets["control"] == "ticket"].groupby("lineage", observed=True)["round"].max()
    lineages = frame.lineages.drop_duplicates("lineage").set_index("lineage")
    planned = lineages["spec"].map(lambda spec: json.loads(spec)["prune"]["rounds"])
    short = planned.index[done.reindex(planned.index).fillna(-1) < planned]
    if not len(short):
        return []
    try:
        failures = frame.failures
    except NotFoundError:  # written when a run ends or is interrupted
        failures = pd.DataFrame({"lineage": [], "first_line": []})
    be = "is" if len(short) == 1 else "are"
    failed = failures[failures["lineage"].isin(short)]
    said = (
        f", {failed['lineage'].nunique()} of them after failures "
        f"(first: {failed['first_line'].iloc[0]})"
        if len(failed)
        else ""
    )
    return [
        f"{len(short)} of {len(planned)} lineages {be} unfinished{said}. See `raylottery status "
        f"{frame.names[0]}`; `raylottery run` goes on with them."
    ]
