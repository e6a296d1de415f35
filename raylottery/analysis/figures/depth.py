"""How far arms can be pruned, and where they should be rewound to."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raylottery.analysis.fields import in_order, say, spec_fields
from raylottery.analysis.figures.axes import Names, beyond, fit, legend, share_axis, value_axis
from raylottery.analysis.figures.drawn import STYLE, Drawn
from raylottery.analysis.figures.groups import Group, Groups, arms
from raylottery.analysis.figures.points import (
    TICKET,
    measure_of,
    points,
    rounds_of,
    said,
    seeds_at,
    table,
)
from raylottery.analysis.figures.scores import FEW, score_words, unmeasured
from raylottery.analysis.frame import Frame
from raylottery.analysis.stats import Critical, critical_density
from raylottery.analysis.summary import summary
from raylottery.analysis.words import percent
from raylottery.errors import UsageError


DEEPEST = 3
"""densities that have a panel of the rewind curve"""


def critical_densities(frame: Frame, *, margin: float = 0.01) -> Drawn:
    """The lowest density at which each arm still scores like its dense network, with intervals.

    Args:
      frame: what was loaded.
      margin: the loss that still counts as none: of accuracy (0.01 is one point), or of a return,
        as a share of the dense networks' mean.
    """
    if not 0 <= margin < 1:
        raise UsageError(f"a margin is a share such as 0.01, and not {margin:g}.")
    groups = arms(frame)
    rounds = rounds_of(frame, groups)
    measure = measure_of(rounds)
    by_seed = seeds_at(rounds.assign(y=rounds["score"].astype(float)), "y", groups)
    if len(groups) > FEW:
        by_seed = by_seed[by_seed["control"] == TICKET]
    scale = 1.0
    if measure == "return":
        dense = by_seed[(by_seed["density"] == 1.0) & (by_seed["control"] == TICKET)]
        scale = abs(float(dense["value"].mean()))
    found = _criticals(by_seed, groups, margin * scale)
    accuracy = f"{100 * margin:g} point{'' if margin == 0.01 else 's'} of accuracy of dense"
    share = f"{margin * scale:.3g} of dense, which is {percent(margin)} of its mean return"
    within = accuracy if measure == "accuracy" else share
    with matplotlib.rc_context(STYLE):
        tallest = max(group.wrapped.count("\n") + 1 for group, _, _ in found)
        height = 1.0 + max(0.3, 0.17 * tallest) * max(len(found), 2)
        figure = Figure(figsize=(7.4, height), layout="constrained")
        axes = figure.subplots()
        names = Names()
        share_axis(axes, by_seed["density"], "Critical density")
        for row, (group, control, critical) in enumerate(found):
            _dot(axes, names, group, control, critical, row)
        axes.set_ylim(len(found) - 0.4, -0.6)
        labels = [group.wrapped if control == TICKET else control for group, control, _ in found]
        axes.set_yticks(range(len(found)), labels)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        for (group, _, _), label in zip(found, axes.get_yticklabels(), strict=True):
            names.give(group, label)
    sentences = (
        f"The lowest density down to which the mean score stays within {within}, by the loss of "
        f"each seed: {said(item.n for _, _, item in found)}.",
        "An arrow goes on below the sparsest round."
        if any(_open(item) for _, _, item in found)
        else "",
        "Hollow: controls." if any(control != TICKET for _, control, _ in found) else "",
        _lacking(by_seed, groups),
        groups.note,
    )
    caption = " ".join(filter(None, sentences))
    return Drawn(figure=figure, caption=caption, name="critical_densities")


def rewind_curve(frame: Frame) -> Drawn:
    """Scores against the point that rounds rewind to, a panel for each of the sparsest densities.

    A line joins arms that differ in the rewind point alone and whose clock follows it.
    """
    groups = arms(frame)
    fields = rewinds(frame)
    rounds = rounds_of(frame, groups)
    rounds = rounds[rounds["control"] == TICKET]
    what, factor = score_words("score", measure_of(rounds))
    densities = summary(frame).densities
    chosen = densities[1:][-DEEPEST:] or densities
    scored = rounds.assign(y=factor * rounds["score"].astype(float))
    found = points(scored, "y", groups, chosen)
    figure = by_rewind(frame, fields, groups, found, what)
    sentences = (
        f"{what.removesuffix(', %')} by rewind point at matched density: {said(found['n'])}. "
        "Lines join arms that differ in the rewind point alone.",
        beyond(found),
        unmeasured(found, groups),
        groups.note,
    )
    caption = " ".join(filter(None, sentences))
    return Drawn(figure=figure, caption=caption, name="rewind_curve")


def by_rewind(
    frame: Frame, fields: pd.DataFrame, groups: Groups, found: pd.DataFrame, what: str
) -> Figure:
    """Points against where their arms rewind to, a panel a density."""
    places, contexts = _places(frame, fields), _besides(fields)
    there = groups.having(found["group"])
    densities = found["density"].drop_duplicates()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(densities) + 2.2, 3.2), layout="constrained")
        panels = figure.subplots(1, len(densities), sharey=True, squeeze=False)[0]
        names = Names()
        for axes, density in zip(panels, densities, strict=True):
            part = found[(found["density"] == density) & (found["n"] > 0)].set_index("group")
            _rewind_panel(axes, names, there, places, contexts, part)
            value_axis(axes, f"{percent(density)} density")
            fit(axes, found)
        figure.supxlabel("Weights rewound to", fontsize=9)
        figure.supylabel(what, fontsize=9)
        legend(figure, names, there)
    return figure


def _criticals(
    by_seed: pd.DataFrame, groups: Groups, margin: float
) -> list[tuple[Group, str, Critical]]:
    """One for each group and control; a control is measured against its tickets' dense round."""
    found = []
    for group in groups.loud:
        own = by_seed[by_seed["group"] == group.key]
        tickets = own[own["control"] == TICKET]
        dense = tickets[tickets["density"] == tickets["density"].max()]
        for control, part in own.groupby("control", sort=False):
            if control != TICKET:
                part = pd.concat([dense, part])
            scores = part.pivot_table(
                index="seed", columns="density", values="value", dropna=False
            )
            # The dense network alone says nothing of how far it can be pruned.
            if scores.notna().any().sum() > 1 and scores[scores.columns.max()].notna().any():
                critical = critical_density(scores.columns, scores.to_numpy(), margin=margin)
                found.append((group, control, critical))
    if not found:
        raise UsageError("no arm has been pruned yet. See `raylottery status` for what is done.")
    return found


def _lacking(by_seed: pd.DataFrame, groups: Groups) -> str:
    pruned = by_seed[(by_seed["control"] == TICKET) & (by_seed["density"] < 1.0)]
    there = set(pruned.dropna(subset="value")["group"])
    lacking = [group.label for group in groups if group.key not in there]
    return f"Without a pruned round: {', '.join(lacking)}." if lacking else ""


def _open(critical: Critical) -> bool:
    """Whether it may well lie below all that was measured."""
    return critical.beyond or (critical.low is None and critical.high is not None)


def _dot(
    axes: Axes, names: Names, group: Group, control: str, critical: Critical, row: int
) -> None:
    branch = control != TICKET
    (dot,) = axes.plot(
        critical.density,
        row,
        color=group.colour,
        marker=group.marker,
        markersize=7,
        markerfacecolor="white" if branch else group.colour,
        zorder=3,
    )
    names.give(group, dot)
    edge = axes.get_xlim()[1]
    if critical.high is not None:
        low = edge if critical.low is None else critical.low
        (line,) = axes.plot(
            [critical.high, low],
            [row, row],
            color=group.colour,
            linestyle=(0, (4, 2)) if branch else "-",
            zorder=2,
        )
        names.give(group, line)
    if _open(critical):
        (arrow,) = axes.plot(edge, row, marker=">", color=group.colour, clip_on=False, zorder=3)
        names.give(group, arrow)
    note = axes.text(
        1.03, row, _in_words(critical), transform=axes.get_yaxis_transform(), va="center"
    )
    names.give(group, note)


def _in_words(critical: Critical) -> str:
    """The density and its interval, for the right margin."""
    least = "at most " if critical.beyond else ""
    here = f"{least}{percent(critical.density)}"
    if critical.high is None:
        return here
    high = percent(critical.high)
    if critical.low is None:
        return f"{here}  (up to {high})"
    return f"{here}  ({percent(critical.low).removesuffix(' %')} to {high})"


def rewinds(frame: Frame) -> pd.DataFrame:
    """The fields of each arm, with those of its rewind point; refused if these are all equal."""
    fields = spec_fields(frame.lineages.drop_duplicates("arm").set_index("arm"))
    fields = fields.reindex(columns=fields.columns.union(["rewind.weights", "rewind.clock"]))
    fields = fields.fillna("null")
    if fields["rewind.weights"].nunique() < 2:
        raise UsageError(
            f"every arm rewinds to {say(fields['rewind.weights'].iloc[0])}. A rewind curve needs "
            "`axes: {rewind.weights: [init, 1%, 5%]}` or the like."
        )
    return fields


def _besides(fields: pd.DataFrame) -> pd.Series:
    """A number by arm: equal where arms differ in the rewind point alone."""
    others = [
        name
        for name in fields
        if name not in ("rewind.weights", "rewind.clock") and fields[name].nunique() > 1
    ]
    return fields.groupby(others).ngroup() if others else pd.Series(0, index=fields.index)


def _places(frame: Frame, fields: pd.DataFrame) -> dict[str, tuple[int, str]]:
    """Where each arm stands on the axis of rewind points, and what to write there."""
    stands = pd.DataFrame(
        {
            "text": [
                say(weights) + ("" if clock in ("null", weights) else f"\nclock {say(clock)}")
                for weights, clock in zip(
                    fields["rewind.weights"], fields["rewind.clock"], strict=True
                )
            ],
            "listed": fields["rewind.weights"].map(in_order(fields["rewind.weights"]).index),
            "step": _steps(frame).reindex(fields.index),
        },
        index=fields.index,
    )
    order = stands.sort_values(["step", "listed", "text"])["text"].drop_duplicates().tolist()
    return {arm: (order.index(text), text) for arm, text in stands["text"].items()}


def _steps(frame: Frame) -> pd.Series:
    """The update that each arm rewinds to, by arm: an epoch and a per cent on one scale."""
    rounds = table(frame, "rounds")
    source = rounds.loc[(rounds["control"] == TICKET) & (rounds["round"] > 0)]
    where = source.drop_duplicates("arm").set_index("arm")["weight_source"]
    steps = pd.to_numeric(where.str.removeprefix("step:"), errors="coerce")
    return steps.mask(where == "init", 0.0).mask(where == "final", np.inf)


def _rewind_panel(
    axes: Axes,
    names: Names,
    groups: Groups,
    places: dict[str, tuple[int, str]],
    contexts: pd.Series,
    points: pd.DataFrame,
) -> None:
    lines = contexts.nunique()
    at = {arm: places[arm][0] + 0.12 * (contexts[arm] - (lines - 1) / 2) for arm in points.index}
    joined: dict[int, list[tuple[float, float]]] = {}
    for arm, mean in points["mean"].items():
        if "\n" not in places[arm][1]:
            joined.setdefault(contexts[arm], []).append((at[arm], mean))
    for ends in joined.values():
        axes.plot(*zip(*sorted(ends), strict=True), color="#bbbbbb", linewidth=1.0, zorder=1)
    for group in groups.having(points.index):
        x, point = at[group.key], points.loc[group.key]
        (dot,) = axes.plot(x, point["mean"], color=group.colour, marker=group.marker, zorder=3)
        names.give(group, dot)
        if not group.quiet and np.isfinite(point["low"]):
            ends = [point["low"], point["high"]]
            (line,) = axes.plot([x, x], ends, color=group.colour, linewidth=1.1, zorder=2)
            names.give(group, line)
    ticks = dict(sorted(places.values()))
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlim(-0.5, len(ticks) - 0.5)
