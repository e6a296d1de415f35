"""The questions of a sweep, one for each of its axes and one for its controls, and their answers.

The page opens on the first question at the usual density nearest to 10 % that all arms reached, or
that enough seeds did to give an interval.
Where a comparison is refused, the reason takes the place of the answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from raylottery.analysis.compare import Comparison, Effect, compare
from raylottery.analysis.fields import axis_values
from raylottery.analysis.frame import Frame
from raylottery.analysis.report.missing import Progress, count
from raylottery.analysis.stats import Estimate
from raylottery.analysis.summary import SummaryRow, summary
from raylottery.analysis.words import p_value, percent
from raylottery.errors import UsageError


TYPICAL = 0.1

MOST_VALUES = 24
"""of an axis: beyond, each against the first is no answer that anybody reads"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One effect as the cells of a table's row."""

    density: str
    pair: str
    effect: str
    interval: str
    p: str
    p_holm: str
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question: what was found, or why it cannot be said."""

    by: str
    frame: Frame
    question: str
    sentences: tuple[str, ...] = ()
    """what a person would say at the typical density, one for each pair of values"""
    unit: str = ""
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All the questions, and the sentence that a page opens on."""

    opening: str
    found: tuple[Answer, ...]


def answer(frame: Frame, done: Progress) -> Answers:
    """Asks every question of the sweeps, of all of them at once where that can be answered."""
    found = tuple(item for by in _questions(frame) for item in _answer(frame, by))
    opening = next((item.sentences[0] for item in found if item.sentences), None)
    return Answers(opening=opening or _standing(frame, done), found=found)


def _questions(frame: Frame) -> Iterator[str]:
    """The axes that vary, one of those that vary together; then the controls."""
    lineages = frame.lineages.drop_duplicates("lineage")
    axes = axis_values(lineages)
    asked: list[pd.Series] = []
    for path in axes:
        cells = pd.Series(pd.factorize(axes[path])[0])
        if cells.nunique() > 1 and not any(cells.equals(other) for other in asked):
            asked.append(cells)
            yield path
    if any(json.loads(spec).get("controls") for spec in lineages["spec"].unique()):
        yield "control"


def _answer(frame: Frame, by: str) -> Iterator[Answer]:
    """The answer of all sweeps together; where there is none, those of each sweep by itself."""
    together = _asked(frame, by)
    alone = []
    if together.refusal and len(frame.names) > 1:
        singles = [Frame(names=(name,), files=frame.files) for name in frame.names]
        alone = [_asked(one, by) for one in singles if by in _questions(one)]
    if any(not item.refusal for item in alone):
        yield from alone
    else:
        yield together


def _asked(frame: Frame, by: str) -> Answer:
    question = "Tickets against controls" if by == "control" else f"By {by}"
    if len(frame.names) > 1:
        question += f", over {count(len(frame.names), 'sweep')}"
    if by != "control" and (many := axis_values(frame.lineages)[by].nunique()) > MOST_VALUES:
        refusal = (
            f"it has {many:,} values, too many to compare here. Compare all at one density: "
            f"`raylottery compare {' '.join(frame.names)} --by {by} --at-density 0.1`."
        )
        return Answer(by=by, frame=frame, question=question, refusal=refusal)
    try:
        found = compare(frame, by)
    except UsageError as error:
        return Answer(by=by, frame=frame, question=question, refusal=str(error))
    known = {effect.density for effect in found.effects if effect.low is not None}
    typical = min(
        known or {effect.density for effect in found.effects},
        key=lambda density: (abs(math.log(density / TYPICAL)), density),
    )
    if typical == 1.0:
        refusal = "only dense networks can be compared yet, and no pruned pair is finished."
        return Answer(by=by, frame=frame, question=question, refusal=refusal)
    points = found.stored_as == "accuracy" and found.metric != "loss"
    return Answer(
        by=by,
        frame=frame,
        question=question,
        sentences=tuple(e.sentence for e in found.effects if e.density == typical),
        unit="points" if points else found.stored_as,
        lines=tuple(_line(found, effect) for effect in found.effects),
        notes=found.notes,
    )


def _line(found: Comparison, effect: Effect) -> Line:
    factor = 100.0 if found.stored_as == "accuracy" and found.metric != "loss" else 1.0

    def signed(figure: float | None) -> str:
        return "" if figure is None else f"{factor * figure:+.2f}".replace("-", "\u2212")

    interval = f"{signed(effect.low)} to {signed(effect.high)}" if effect.low is not None else ""
    return Line(
        density=percent(effect.density),
        pair=f"{effect.value} against {effect.reference}",
        effect=signed(effect.effect),
        interval=interval,
        p=_p(effect.p),
        p_holm=_p(effect.p_holm),
        seeds=effect.n,
    )


def _p(p: float | None) -> str:
    return "" if p is None else p_value(p).removeprefix("p = ").removeprefix("p ")


def _standing(frame: Frame, done: Progress) -> str:
    """What can be said where nothing can be compared: how the first arm does, dense and sparse."""
    if not done.done:
        return (
            f"No round of {', '.join(frame.names)} is finished yet, so there is nothing to answer."
        )
    try:
        found = summary(frame)
    except UsageError as error:
        return f"There is no answer yet: {error}"
    tickets = [row for row in found.rows if row.control == "ticket"]
    row = tickets[0]
    typical = min(found.densities, key=lambda density: abs(math.log(density / TYPICAL)))
    reached = [
        f"{_said(cell, row)} at {shown_density(density)}"
        for density, cell in zip(found.densities, row.cells, strict=True)
        if cell is not None and density in (1.0, typical)
    ]
    score = f"{row.arm_label} scores {' and '.join(reached)}, {count(row.seeds, 'seed')}."
    return f"Nothing can be compared yet: {score}"


def _said(cell: Estimate, row: SummaryRow) -> str:
    if row.stored_as == "accuracy":
        return f"{100 * cell.mean:.1f} %"
    return f"{cell.mean:.1f}"


def shown_density(density: float) -> str:
    """A density as the head of a column or the end of a sentence."""
    return "dense" if density == 1.0 else f"{percent(density)} density"
