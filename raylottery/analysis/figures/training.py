"""How tickets learn: the curves of some rounds, and how many updates each round needs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raylottery.analysis.figures.axes import (
    Names,
    band_line,
    beyond,
    fit,
    legend,
    share_axis,
    value_axis,
)
from raylottery.analysis.figures.drawn import STYLE, Drawn
from raylottery.analysis.figures.groups import Groups, arms
from raylottery.analysis.figures.points import (
    TICKET,
    interval,
    points,
    rounds_of,
    said,
    table,
)
from raylottery.analysis.figures.scores import FEW, dashed_words, draw_points, unmeasured
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND
from raylottery.analysis.words import percent
from raylottery.errors import UsageError


PANELS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""densities whose nearest rounds have a panel of learning curves"""
NEAR = 1.5
"""times a density that a round may be off, to stand for it"""

NEARLY = 0.95
"""of what all dense networks reach: the default threshold"""


def learning_curves(frame: Frame) -> Drawn:
    """Scores on the way, a panel a round, a line an arm; a single arm beside its dense round."""
    groups = arms(frame)
    curves, what = _measured(frame, groups)
    tickets = curves[curves["control"] == TICKET]
    chosen = _rounds_near(tickets)
    tickets = tickets[tickets["round"].isin(chosen)]
    seeds = tickets.groupby(["group", "round", "step", "seed"])["value"].mean()
    found = pd.DataFrame(
        {"group": group, "round": number, "step": step} | interval(values.to_numpy())
        for (group, number, step), values in seeds.groupby(level=["group", "round", "step"])
    )
    columns = min(2 if len(chosen) == 4 else 3, len(chosen))
    lines = -(-len(chosen) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * columns + 2.2, 2.1 * lines + 0.4), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        names = Names()
        for axes, number in zip(panels, chosen, strict=False):
            densities = tickets["density"][tickets["round"] == number]
            _curve_panel(axes, names, groups, found, number)
            value_axis(axes, f"round {number}, {_range(densities)}")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter("{x:,.0f}")
            fit(axes, found)
        for axes in panels[len(chosen) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(chosen) - columns) : len(chosen)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("Updates", fontsize=9)
        figure.supylabel(what, fontsize=9)
        legend(figure, names, groups.having(found["group"]))
    sentences = (
        f"{what.removesuffix(', %')} on the way, by round and density: {said(found['n'])}.",
        beyond(found),
        "Updates are those of the schedule's clock, which starts where a round rewinds to.",
        "Grey: the dense round." if len(chosen) > 1 and len(groups) == 1 else "",
        "In round 0 arms that share their dense networks coincide." if len(groups) > 1 else "",
        unmeasured(found, groups),
        groups.note,
    )
    return _drawn(figure, sentences, "learning_curves")


def training_speed(frame: Frame, *, threshold: float | None = None) -> Drawn:
    """Updates that a round needs: until its validation loss is lowest, until it scores well.

    Args:
      frame: what was loaded.
      threshold: a score on the way, in the unit that the curves store (0.6 for 60 %); if left
        out, 95 % of what the dense network of every seed reaches.
    """
    groups = arms(frame)
    curves, what = _measured(frame, groups)
    rounds = rounds_of(frame, groups)
    if len(groups) > FEW:
        rounds = rounds[rounds["control"] == TICKET]
    factor = 100.0 if what.endswith("%") else 1.0
    if threshold is None:
        dense = curves[(curves["round"] == 0) & (curves["control"] == TICKET)]
        threshold = NEARLY * dense.groupby("lineage")["value"].max().min() / factor
    timed = _timed(rounds, curves, threshold * factor)
    shown = f"{threshold * factor:.3g}" + (" %" if factor == 100.0 else "")
    quantities = {
        "lowest": "Updates to the lowest validation loss",
        "reached": f"Updates to {_lower(what)} of {shown}",
    }
    found = {
        column: part
        for column in quantities
        if (part := points(_where_all(timed, column), column, groups))["n"].any()
    }
    if not found:
        raise UsageError(
            f"no round reaches {_lower(what)} of {shown}. Ask for less with threshold=, in the "
            "unit of the curves."
        )
    every = pd.concat(found.values())
    controls = sorted(set(every["control"][every["n"] > 0]) - {TICKET})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7 * len(found) + 2.2, 3.4), layout="constrained")
        names = Names()
        for axes, (column, part) in zip(
            figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
        ):
            draw_points(axes, names, groups, part)
            share_axis(axes, every["density"], "Density: weights kept")
            value_axis(axes, quantities[column])
            fit(axes, part)
        legend(figure, names, groups.having(every["group"]), controls=controls)
    until = _said_quantities(list(found), what, shown)
    sentences = (
        f"Updates trained in a round until {until}, by density: {said(every['n'])}.",
        next(filter(None, map(beyond, found.values())), ""),
        "A round has no point where a seed never reaches it." if "reached" in found else "",
        f"Measured every {_distance(curves)} updates.",
        dashed_words(controls, groups),
        unmeasured(every, groups),
        groups.note,
    )
    return _drawn(figure, sentences, "training_speed")


def _measured(frame: Frame, groups: Groups) -> tuple[pd.DataFrame, str]:
    """The evaluations on the way, with group, seed and density, and what they measure."""
    curves = table(frame, "curves")
    rounds = rounds_of(frame, groups)
    kinds = {
        ("valid", "accuracy"): ("Validation accuracy, %", 100.0),
        ("eval", "return"): ("Mean return", 1.0),
    }
    of = curves.groupby(["split", "metric"], observed=True).groups
    there = [kind for kind in kinds if kind in of]
    if len(there) != 1:
        raise UsageError(
            "the curves hold no score on the way. Run the sweep again, which rewrites its tables."
            if not there
            else "one axis cannot show both accuracy and return. Draw the sweeps one at a time."
        )
    split, metric = there[0]
    what, factor = kinds[split, metric]
    scores = curves[(curves["split"] == split) & (curves["metric"] == metric)]
    about = _as_stored(rounds)[[*ROUND, "seed", "density", "group"]]
    joined = scores[[*ROUND, "step", "value"]].merge(about, on=ROUND)
    return joined.assign(value=factor * joined["value"]), what


def _timed(rounds: pd.DataFrame, curves: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Rounds with `lowest` and `reached`, counted from where the round's clock began."""
    stored = _as_stored(rounds)
    last = curves.groupby(ROUND, observed=True)["step"].max().rename("last")
    good = curves[curves["value"] >= threshold]
    first = good.groupby(ROUND, observed=True)["step"].min().rename("first")
    steps = stored.join(last, on=ROUND).join(first, on=ROUND)
    clock = steps["last"] - steps["steps"]
    lowest = steps.get("min_loss_step", np.nan)
    return rounds.assign(
        lowest=(lowest - clock).astype(float), reached=(steps["first"] - clock).astype(float)
    )


def _as_stored(rounds: pd.DataFrame) -> pd.DataFrame:
    """With the controls' names of the tables, by which rounds are joined."""
    return rounds.assign(control=rounds["control"].str.removesuffix(" (own)"))


def _where_all(rounds: pd.DataFrame, column: str) -> pd.DataFrame:
    """Without the figures of rounds that some seed has none for: no mean of the fast ones."""
    known = rounds[column].notna()
    whole = known.groupby([rounds["group"], rounds["control"], rounds["round"]]).transform("all")
    return rounds.assign(**{column: rounds[column].where(whole)})


def _rounds_near(tickets: pd.DataFrame) -> list[int]:
    """The rounds nearest to the usual densities."""
    density = tickets.groupby("round")["density"].median()
    chosen = {0}
    for share in PANELS:
        off = (np.log(density) - np.log(share)).abs()
        if off.min() <= np.log(NEAR):
            chosen.add(int(off.idxmin()))
    return sorted(chosen & set(density.index))


def _curve_panel(axes, names: Names, groups: Groups, found: pd.DataFrame, number: int) -> None:
    for group in sorted(groups, key=lambda group: not group.quiet):
        part = found[(found["group"] == group.key) & (found["round"] == number)]
        dense = found[(found["group"] == group.key) & (found["round"] == 0)]
        if len(groups) == 1 and number > 0:
            axes.plot(dense["step"], dense["mean"], color="#999999", linewidth=1.0, zorder=2)
        if len(part):
            place = (groups.items.index(group) + 0.5) / len(groups)
            band_line(axes, names, group, part["step"], part, sparse=place)


def _range(densities: pd.Series) -> str:
    low, high = percent(densities.min()), percent(densities.max())
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _distance(curves: pd.DataFrame) -> str:
    first = curves["step"].drop_duplicates().sort_values().diff().dropna()
    return f"{first.mode().iloc[0]:,.0f}"


def _lower(what: str) -> str:
    what = what.removesuffix(", %")
    return what[0].lower() + what[1:]


def _said_quantities(found: Sequence[str], what: str, shown: str) -> str:
    parts = {
        "lowest": "its validation loss is lowest",
        "reached": f"it first reaches {_lower(what)} of {shown}",
    }
    return " (left), and until ".join(parts[column] for column in found) + (
        " (right)" if len(found) > 1 else ""
    )


def _drawn(figure: Figure, sentences: Sequence[str], name: str) -> Drawn:
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name=name)
