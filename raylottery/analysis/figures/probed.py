"""What probes found in stored tickets: the inputs they still read, and how they are connected."""

from __future__ import annotations

import pandas as pd
from matplotlib.colors import PowerNorm

from raylottery.analysis.figures.axes import beyond
from raylottery.analysis.figures.depth import DEEPEST, by_rewind, rewinds
from raylottery.analysis.figures.drawn import Drawn
from raylottery.analysis.figures.groups import arms, placed
from raylottery.analysis.figures.layers import PANELS, heat_maps
from raylottery.analysis.figures.points import TICKET, points, rounds_of, said
from raylottery.analysis.figures.scores import unmeasured
from raylottery.analysis.frame import Frame
from raylottery.analysis.words import percent
from raylottery.errors import NotFoundError, UsageError


def input_survival(frame: Frame) -> Drawn:
    """The share of its weights that each input keeps, by round, a panel an arm."""
    groups = arms(frame)
    rows = analysed(frame, "inputs")
    rows = rows[rows["control"] == TICKET]
    rows = rows.assign(group=placed(rows, groups))
    there = groups.having(rows["group"])
    shown = there.loud[:PANELS]
    if not shown:
        raise UsageError(
            "no ticket of a coloured arm is in the table: ask `raylottery analyse` anew."
        )
    tables = {group.key: _by_input(rows[rows["group"] == group.key]) for group in shown}
    norm = PowerNorm(0.5, vmin=0.0, vmax=1.0)
    ticks = (0, 0.01, 0.05, 0.1, 0.2, 0.5, 1)
    figure = heat_maps(shown, tables, norm, ticks, label="Weights kept of the input")
    n = rows.groupby("group")["seed"].nunique()
    left_out = len(there) - len(shown)
    seeds = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    sentences = (
        "Share of its weights in the first layer that each input keeps, by round: means over "
        f"n = {seeds} seed{'' if n.max() == 1 else 's'}, without intervals. White: no seed reads "
        "it any more.",
        f"{left_out} more arms have no panel." if left_out else "",
        unmeasured(rows, groups),
        groups.note,
    )
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name="input_survival")


def barriers(frame: Frame) -> Drawn:
    """The error barrier between a ticket's children against the point that it was rewound to, a
    panel for each of the sparsest densities."""
    groups = arms(frame)
    fields = rewinds(frame)
    chords = analysed(frame, "connectivity")
    chords = chords[chords["alpha"] == 0]
    children = chords[chords["other"].str.startswith("replicate:")]
    if children.empty:
        raise UsageError(
            "no ticket has a second child. A barrier needs `controls: [replicate]`, and "
            "`raylottery analyse` after it."
        )
    of_ticket = children.groupby(["lineage", "round"])["barrier"].mean().rename("y").reset_index()
    rounds = rounds_of(frame, groups)
    rounds = rounds[rounds["control"] == TICKET].merge(of_ticket, on=["lineage", "round"])
    rounds = rounds.assign(y=100 * rounds["y"])
    chosen = sorted(rounds.groupby("round")["density"].max(), reverse=True)[-DEEPEST:]
    found = points(rounds, "y", groups, chosen)
    strangers = 100 * chords.loc[chords["other"].str.startswith("seed:"), "barrier"]
    figure = by_rewind(frame, fields, groups, found, "Error barrier, %")
    sentences = (
        "Error barrier between two children of a ticket, trained with another order of the data "
        f"each, by rewind point: {said(found['n'])}.",
        f"Between the dense networks of two seeds it is {strangers.mean():.1f} % on average."
        if len(strangers)
        else "",
        beyond(found),
        unmeasured(found, groups),
        groups.note,
    )
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name="barriers")


def analysed(frame: Frame, kind: str) -> pd.DataFrame:
    """The table of a probe; UsageError where it was not asked yet."""
    try:
        return frame.analysis(kind)
    except NotFoundError as error:
        raise UsageError(str(error)) from error


def _by_input(rows: pd.DataFrame) -> pd.DataFrame:
    """Inputs by rounds, in the network's order; a column's name is the density of its round."""
    rows = rows.sort_values(["input", "round"])
    cells = rows.groupby(["input", "round"])["share"].mean().unstack("round")
    density = rows.groupby("round")["density"].mean()
    cells.index = rows.drop_duplicates("input")["name"]
    return cells.set_axis([percent(density[number]) for number in cells.columns], axis=1)
