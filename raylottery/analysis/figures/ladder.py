"""Tickets and all of their controls, rung below rung."""

from __future__ import annotations

from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raylottery.analysis.figures.axes import Names, beyond, fit, share_axis, value_axis
from raylottery.analysis.figures.drawn import STYLE, Drawn
from raylottery.analysis.figures.groups import LOOKS, Group, arms
from raylottery.analysis.figures.points import TICKET, measure_of, points, rounds_of, said
from raylottery.analysis.figures.scores import score_words, unmeasured
from raylottery.analysis.frame import Frame
from raylottery.errors import UsageError


PANELS = 6
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Of what comes first, and of what has the same colour."""


def control_ladder(frame: Frame) -> Drawn:
    """Scores by density of the tickets and of every control, a panel an arm."""
    groups = arms(frame)
    rounds = rounds_of(frame, groups)
    what, factor = score_words("score", measure_of(rounds))
    found = points(rounds.assign(y=factor * rounds["score"].astype(float)), "y", groups)
    order = by_height(found)
    there = groups.having(found.loc[found["control"] != TICKET, "group"])
    shown = there.loud[:PANELS]
    if not shown:
        raise UsageError(
            "no control of a coloured arm is finished. A ladder needs `controls: [reinit, "
            "permuted-both, random-global]` or the like."
        )
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns + 1.9, 3.1 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        names = Names()
        for axes, group in zip(panels, shown, strict=False):
            part = found[found["group"] == group.key]
            rungs(axes, names, group, part, order)
            share_axis(axes, found["density"], "Density: weights kept")
            value_axis(axes, group.wrapped)
            fit(axes, found)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supylabel(what, fontsize=9)
        figure.legend(handles=looks(order), loc="outside right upper", labelspacing=0.7)
    left_out = len(there) - len(shown)
    sentences = (
        f"{what.removesuffix(', %')} of tickets and their controls: {said(found['n'])}.",
        beyond(found),
        f"{left_out} more arms have no panel." if left_out else "",
        unmeasured(found, groups),
        groups.note,
    )
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name="control_ladder")


def by_height(found: pd.DataFrame) -> list[str]:
    """Tickets, then the controls from best to worst: the order of the lines on the page."""
    pruned = found[found["density"] < 1]
    height = pruned.groupby("control", observed=True)["mean"].mean().sort_values(ascending=False)
    return [TICKET, *(control for control in height.index if control != TICKET)]


def look(index: int) -> tuple[str, str, Any]:
    """The colour, marker and dashes of a rung."""
    colour, marker = LOOKS[index % len(LOOKS)]
    return colour, marker, DASHES[index // len(LOOKS) % len(DASHES)]


def rungs(axes: Axes, names: Names, group: Group, part: pd.DataFrame, order: list[str]) -> None:
    """The lines of one arm, each with the bars of its intervals."""
    for index, control in enumerate(order):
        rung = part[(part["control"] == control) & (part["n"] > 0)]
        if rung.empty:
            continue
        colour, marker, dashes = look(index)
        (line,) = axes.plot(
            rung["density"], rung["mean"], color=colour, marker=marker, markersize=4,
            linestyle=dashes, linewidth=1.4, label=control, zorder=4 if control == TICKET else 3,
        )  # fmt: skip
        bars = axes.vlines(
            rung["density"], rung["low"], rung["high"], color=colour, linewidth=0.8, alpha=0.6
        )
        names.give(group, line, bars)


def looks(order: list[str]) -> list[Line2D]:
    """What each line stands for."""
    found = []
    for index, control in enumerate(order):
        colour, marker, dashes = look(index)
        line = Line2D([], [], color=colour, marker=marker, markersize=4, linestyle=dashes)
        line.set_label("tickets" if control == TICKET else control)
        found.append(line)
    return found
