"""What is left of each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from raylottery.analysis.figures.axes import Names
from raylottery.analysis.figures.drawn import STYLE, Drawn
from raylottery.analysis.figures.groups import Group, arms, placed
from raylottery.analysis.figures.points import TICKET, table
from raylottery.analysis.figures.scores import unmeasured
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND
from raylottery.analysis.words import percent


PANELS = 6
CELLS = 100
"""more have no room for figures"""


def layer_densities(frame: Frame) -> Drawn:
    """The density of each layer by round, a panel an arm; the mean over seeds."""
    groups = arms(frame)
    layers = table(frame, "layers")
    tickets = layers[layers["control"] == TICKET]
    seeds = frame.lineages.drop_duplicates("lineage").set_index("lineage")["seed"]
    tickets = tickets.assign(group=placed(tickets, groups), seed=tickets["lineage"].map(seeds))
    there = groups.having(tickets["group"])
    shown = there.loud[:PANELS]
    tables = {group.key: _table(tickets[tickets["group"] == group.key]) for group in shown}
    least = min(cells.to_numpy()[cells.to_numpy() > 0].min() for cells in tables.values())
    norm = LogNorm(vmin=min(least, 0.5), vmax=1.0)
    ticks = [share for share in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001) if share >= least]
    figure = heat_maps(shown, tables, norm, ticks, label="Density of the layer")
    n = tickets[tickets["group"].isin(tables)].groupby(["group", "round"])["seed"].nunique()
    left_out = len(there) - len(shown)
    seeds_each = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    sentences = (
        "Density of each layer by round, input to output from the top: means over "
        f"n = {seeds_each} seed{'' if n.max() == 1 else 's'}, without intervals. White: nothing "
        "left.",
        f"{left_out} more arms have no panel." if left_out else "",
        unmeasured(tickets, groups),
        groups.note,
    )
    return Drawn(figure=figure, caption=" ".join(filter(None, sentences)), name="layer_densities")


def _table(tickets: pd.DataFrame) -> pd.DataFrame:
    """Layers by rounds, in the network's order; a column's name is the density of its round."""
    order = tickets["layer"].drop_duplicates()
    cells = tickets.groupby(["layer", "round"])["density"].mean().unstack("round").loc[order]
    cells.index = cells.index.map(_layer)
    whole = tickets.groupby(ROUND, observed=True)[["kept", "prunable"]].sum()
    density = (whole["kept"] / whole["prunable"]).groupby("round").mean()
    return cells.set_axis([percent(density[number]) for number in cells.columns], axis=1)


def heat_maps(
    shown: Sequence[Group],
    tables: Mapping[str, pd.DataFrame],
    norm: Normalize,
    ticks: Sequence[float],
    *,
    label: str,
) -> Figure:
    """A panel a group: what the rows of its table are, by the density of the whole network."""
    columns = 1 if len(shown) == 1 else 2 if len(shown) in (2, 4) else 3
    lines = -(-len(shown) // columns)
    tallest = max(len(cells) for cells in tables.values())
    height = max(1.3, min(0.28 * tallest, 6.0)) + 0.7
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7 * columns + 1.4, height * lines + 0.3), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        names = Names()
        for axes, group in zip(panels, shown, strict=False):
            image = _panel(axes, names, group, tables[group.key], norm)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("Density of the whole network", fontsize=9)
        bar = figure.colorbar(image, ax=list(panels), label=label, aspect=30)
        bar.set_ticks(list(ticks), labels=[percent(tick) for tick in ticks])
        bar.minorticks_off()
        bar.outline.set_visible(False)
    return figure


def _panel(axes: Axes, names: Names, group: Group, cells: pd.DataFrame, norm: Normalize):
    values = np.ma.masked_less_equal(np.ma.masked_invalid(cells.to_numpy()), 0.0)
    image = axes.imshow(values, norm=norm, cmap="cividis", aspect="auto", interpolation="none")
    names.give(group, image)
    title = axes.set_title(group.wrapped, loc="left", color="#222222")
    names.give(group, title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    rows = range(0, len(cells), -(-len(cells) // 30))
    axes.set_yticks(rows, [cells.index[row] for row in rows])
    step = -(-cells.shape[1] // 6)
    axes.set_xticks(range(0, cells.shape[1], step), cells.columns[::step])
    if cells.size <= CELLS and cells.shape[1] <= 10:
        for (row, column), value in np.ndenumerate(cells.to_numpy()):
            if np.isfinite(value):
                dark = norm(value) < 0.5
                note = axes.text(
                    column, row, f"{100 * value:.2g}" if value < 0.995 else "100",
                    ha="center", va="center", fontsize=7.5,
                    color="white" if dark and value > 0 else "#222222",
                )  # fmt: skip
                names.give(group, note)
    return image


def _layer(name: str) -> str:
    """A layer's short name; one that is a number alone says nothing."""
    short = name.removesuffix(".weight")
    return name if short.isdigit() else short
