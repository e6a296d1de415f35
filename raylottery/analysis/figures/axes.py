"""Quiet axes: shares and accuracies in per cent, the measured quantity above its axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from raylottery.analysis.figures.groups import WIDTH, Group, Groups
from raylottery.analysis.words import percent


SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


def share_axis(axes: Axes, shares: Iterable[float], label: str) -> None:
    """Shares on a logarithmic axis, from the dense network on the left to the sparsest."""
    shares = np.asarray(list(shares), dtype=float)
    low, high = shares.min(), shares.max()
    pad = max(1.03, (high / low) ** 0.03)
    axes.set_xscale("log")
    axes.set_xlim(high * pad, low / pad)
    within = [share for share in SHARES if low / pad <= share <= high * pad]
    ticks = within if len(within) > 1 else sorted({low, high})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([percent(tick) for tick in ticks])
    axes.set_xlabel(label)


def value_axis(axes: Axes, label: str) -> None:
    """The quantity above its axis, where it is read without turning one's head."""
    axes.set_title(label, loc="left", color="#222222", pad=8)
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.tick_params(length=0, axis="y")
    axes.tick_params(length=3, axis="x")
    axes.spines["left"].set_visible(False)


def fit(axes: Axes, points: pd.DataFrame) -> None:
    """Limits for all means and all seeds; an interval of few seeds may be wider than they are."""
    axes.set_ylim(*_limits(points))


def beyond(points: pd.DataFrame) -> str:
    """What a caption says where an interval does not fit."""
    low, high = _limits(points)
    cut = (points["low"] < low) | (points["high"] > high)
    return "Where an interval meets the frame it is wider than shown." if cut.any() else ""


def _limits(points: pd.DataFrame) -> tuple[float, float]:
    low, high = points["least"].min(), points["most"].max()
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


class Names:
    """Ids for the artists of each group: `arm-<id>--1`, `--2`, so that a page can hide them."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def give(self, group: Group, *artists) -> None:
        for artist in artists:
            self._count[group.gid] = self._count.get(group.gid, 0) + 1
            artist.set_gid(f"{group.gid}--{self._count[group.gid]}")


def band_line(
    axes: Axes,
    names: Names,
    group: Group,
    x: Sequence[float],
    points: pd.DataFrame,
    *,
    dashed: bool = False,
    banded: bool = True,
    sparse: float | None = None,
) -> None:
    """A line of means, and the band of their intervals where there are any.

    A sparse line has a few markers, enough to know it by, from this share of their distance on.
    """
    every = max(1, len(x) // 4)
    (line,) = axes.plot(
        x,
        points["mean"],
        color=group.colour,
        linestyle=(0, (4, 2)) if dashed else "-",
        linewidth=1.0 if group.quiet or dashed else 1.6,
        marker=None if group.quiet else group.marker,
        markevery=None if sparse is None else (int(sparse * every), every),
        markerfacecolor="white" if dashed else group.colour,
        markersize=4 if dashed else 5,
        zorder=2 if group.quiet else 4 if not dashed else 3,
    )
    names.give(group, line)
    if banded and points["low"].notna().any() and not group.quiet:
        band = axes.fill_between(
            x, points["low"], points["high"], color=group.colour, alpha=0.13, linewidth=0, zorder=1
        )
        edges = (
            []
            if sparse is not None
            else [
                axes.plot(x, points[end], color=group.colour, alpha=0.45, linewidth=0.6, zorder=1)[
                    0
                ]
                for end in ("low", "high")
            ]
        )
        names.give(group, band, *edges)


def legend(
    figure: Figure,
    names: Names,
    groups: Groups,
    *,
    controls: Sequence[str] = (),
    others: Sequence[tuple[Line2D, str]] = (),
) -> None:
    """Names beside the axes, where they cover nothing: the groups, then what dashes stand for."""
    handles = [
        Line2D([], [], color=group.colour, marker=group.marker, label=group.wrapped)
        for group in groups.loud
    ]
    quiet = [group for group in groups if group.quiet]
    if quiet:
        handles.append(
            Line2D([], [], color=quiet[0].colour, linewidth=1.0, label=f"{len(quiet)} other arms")
        )
    if controls:
        dashes = Line2D(
            [], [], color="#555555", linestyle=(0, (4, 2)), linewidth=1.0, marker="o",
            markerfacecolor="white", markersize=4, label=fill(", ".join(controls), WIDTH),
        )  # fmt: skip
        handles.append(dashes)
    for handle, label in others:
        handle.set_label(label)
        handles.append(handle)
    if len(handles) == 1 and groups.loud[0].label == "tickets":
        return
    drawn = figure.legend(handles=handles, loc="outside right upper", labelspacing=0.7)
    for group, handle, text in zip(
        groups.loud, drawn.legend_handles, drawn.get_texts(), strict=False
    ):
        names.give(group, handle, text)
