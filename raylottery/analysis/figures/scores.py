"""Scores against what is left of the network: its weights, or its multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from raylottery.analysis.cells import METRICS
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
from raylottery.analysis.figures.groups import Groups, grouped
from raylottery.analysis.figures.points import (
    TICKET,
    measure_of,
    points,
    rounds_of,
    said,
    table,
)
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import flops_shares
from raylottery.errors import UsageError, did_you_mean


FEW = 4
"""groups beside which there is room for their controls"""
PAIR = 2
"""and for the bands of these"""


def score_by_density(
    frame: Frame, *, by: str = "arm_label", metric: str = "score", controls: bool | None = None
) -> Drawn:
    """Scores against density, a line an arm.

    Args:
      frame: what was loaded.
      by: `arm_label`, or an axis of the sweeps: a line for each of its values then, which is the
        mean over the other axes.
      metric: a score column of the rounds.
      controls: whether to draw the controls too, dashed; beside up to four lines if left out.
    """
    groups = grouped(frame, by)
    rounds = rounds_of(frame, groups)
    return _scores(
        rounds, groups, metric, controls, name="score_by_density", axis="Density: weights kept"
    )


def score_by_flops(
    frame: Frame, *, by: str = "arm_label", metric: str = "score", controls: bool | None = None
) -> Drawn:
    """Scores against the share of the dense network's multiply-adds that the kept weights make.

    The arguments are those of `score_by_density`.
    """
    groups = grouped(frame, by)
    layers = table(frame, "layers")
    rounds = rounds_of(frame, groups, shares=flops_shares(layers))
    drawn = _scores(
        rounds, groups, metric, controls, name="score_by_flops", axis="Multiply-adds kept"
    )
    dense = layers[layers["round"] == 0].groupby("lineage")["flops_kept"].sum()
    sizes = " or ".join(f"{count:,}" for count in sorted(set(dense)))
    caption = f"{drawn.caption} The dense network makes {sizes} for one example."
    return Drawn(figure=drawn.figure, caption=caption, name=drawn.name)


def score_words(metric: str, measure: str) -> tuple[str, float]:
    """What to call a score column, and the factor from what is stored to what is drawn."""
    if metric == "loss":
        return "Training loss", 1.0
    what = {"accuracy": "Test accuracy", "return": "Mean return"}.get(measure, measure)
    what = what if metric == "score" else f"{measure.capitalize()} ({metric})"
    return (f"{what}, %", 100.0) if measure == "accuracy" else (what, 1.0)


def _scores(
    rounds: pd.DataFrame,
    groups: Groups,
    metric: str,
    controls: bool | None,
    *,
    name: str,
    axis: str,
) -> Drawn:
    if metric not in METRICS:
        raise UsageError(f"no score column {metric!r}. {did_you_mean(metric, METRICS)}")
    if metric not in rounds or rounds[metric].isna().all():
        raise UsageError(
            f"no finished round has a {metric}. See `raylottery status` for what is done."
        )
    what, factor = score_words(metric, measure_of(rounds))
    wanted = len(groups) <= FEW if controls is None else controls
    if not wanted:
        rounds = rounds[rounds["control"] == TICKET]
    found = points(rounds.assign(y=factor * rounds[metric].astype(float)), "y", groups)
    if not found["n"].any():
        raise UsageError(
            "no seed has finished rounds of all the arms that a line is the mean of. Draw "
            'by="arm_label", or finish the sweep with `raylottery run`.'
        )
    shown = sorted(set(found["control"]) - {TICKET})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.8), layout="constrained")
        axes = figure.subplots()
        names = Names()
        draw_points(axes, names, groups, found)
        share_axis(axes, found["density"], axis)
        value_axis(axes, what)
        fit(axes, found)
        legend(figure, names, groups.having(found["group"]), controls=shown)
    sentences = (
        f"{what.removesuffix(', %')} by {axis.split(':')[0].lower()}: {said(found['n'])}.",
        beyond(found),
        dashed_words(shown, groups),
        unmeasured(found, groups),
        groups.note,
    )
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name=name)


def draw_points(axes, names: Names, groups: Groups, found: pd.DataFrame) -> None:
    """A line and a band for each group and control, grey ones first."""
    for group in sorted(groups, key=lambda group: not group.quiet):
        for control, part in found[found["group"] == group.key].groupby("control", sort=False):
            branch = control != TICKET
            banded = not branch or len(groups) <= PAIR
            band_line(axes, names, group, part["density"], part, dashed=branch, banded=banded)


def dashed_words(controls: Sequence[str], groups: Groups) -> str:
    """What a caption says of dashed lines."""
    if not controls:
        return ""
    bare = "" if len(groups) <= PAIR else ", without their intervals"
    return f"Dashed: {', '.join(controls)}{bare}."


def unmeasured(found: pd.DataFrame, groups: Groups) -> str:
    """Which groups a figure lacks."""
    there = set(found["group"])
    lacking = [group.label for group in groups if group.key not in there]
    return f"Without a finished round: {', '.join(lacking)}." if lacking else ""
