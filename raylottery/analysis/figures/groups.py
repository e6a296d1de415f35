"""What the lines of a figure stand for, and how each looks: the same in all figures of a frame.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; each comes with
a marker of its own, for print in grey. Nobody tells nine lines apart, so of many arms the best few
have a colour and a name, and the others are grey.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from raylottery.analysis.fields import axis_values, in_order, say
from raylottery.analysis.frame import Frame
from raylottery.analysis.summary import summary
from raylottery.analysis.words import percent
from raylottery.errors import UsageError, did_you_mean


LOOKS = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    ("#E69F00", "P"),
    ("#000000", "X"),
    ("#7F7F7F", "*"),
)
QUIET = ("#C8C8C8", ".")
BEST = 6
"""of more groups than there are looks"""

UNNAMED = "base"
"""the label of the arm of a sweep without axes"""

WIDTH = 30


@dataclass(frozen=True, kw_only=True)
class Group:
    """One line of a figure: an arm, or all lineages with one value of a field."""

    key: str
    label: str
    colour: str
    marker: str
    gid: str
    lineages: Mapping[str, int]
    """each with its seed, measured or not"""
    quiet: bool = False

    @property
    def wrapped(self) -> str:
        """The label in lines that a legend has room for."""
        return "\n".join(textwrap.wrap(self.label, WIDTH)) or self.label


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All the groups of a figure, and what a caption must say of how they look."""

    items: tuple[Group, ...]
    note: str

    def __iter__(self) -> Iterator[Group]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def having(self, keys: Iterable[str]) -> Groups:
        """Those that a figure has something of."""
        there = set(keys)
        items = tuple(group for group in self.items if group.key in there)
        return Groups(items=items, note=self.note)

    @property
    def loud(self) -> tuple[Group, ...]:
        """Those with a colour and a name."""
        return tuple(group for group in self.items if not group.quiet)


def colours(frame: Frame) -> dict[str, str]:
    """The colour of each arm, by its id."""
    return {group.key: group.colour for group in arms(frame)}


def arms(frame: Frame) -> Groups:
    """One group an arm, sweep by sweep, by the values of its axes as people list them."""
    lineages = frame.lineages.drop_duplicates("lineage")
    first = lineages.drop_duplicates("arm")
    ranks = axis_values(first).apply(lambda cells: cells.map(in_order(cells).index))
    ranks.insert(0, "sweep", first["sweep"].map(frame.names.index))
    first = first.loc[ranks.sort_values(list(ranks)).index].set_index("arm")
    label, sweep = first["arm_label"], first["sweep"]
    if len(label) == 1:
        label = label.replace(UNNAMED, "tickets")
    label = label.where(~label.duplicated(keep=False), sweep + ": " + label)
    best, note = _best(frame, len(first))
    looks = iter(LOOKS)
    items = []
    for arm in first.index:
        quiet = best is not None and arm not in best
        colour, marker = QUIET if quiet else next(looks)
        items.append(
            Group(
                key=arm,
                label=label[arm],
                colour=colour,
                marker=marker,
                gid=f"arm-{arm}",
                lineages=_seeds(lineages[lineages["arm"] == arm]),
                quiet=quiet,
            )
        )
    return Groups(items=tuple(items), note=note)


def grouped(frame: Frame, by: str) -> Groups:
    """One group an arm, or one a value of an axis; a group of one arm looks like the arm."""
    if by == "arm_label":
        return arms(frame)
    lineages = frame.lineages.drop_duplicates("lineage").reset_index(drop=True)
    axes = axis_values(lineages)
    if by not in axes:
        known = ["arm_label", *axes]
        raise UsageError(f"no axis {by!r} to draw lines by. {did_you_mean(by, known)}")
    values = in_order(axes[by])
    if len(values) > len(LOOKS):
        raise UsageError(
            f"{by} has {len(values)} values, and {len(LOOKS)} lines are as many as can be told "
            'apart. Draw by="arm_label", which shows the best.'
        )
    alone = {frozenset(group.lineages): group for group in arms(frame)}
    items = []
    for value, (colour, marker) in zip(values, LOOKS, strict=False):
        members = _seeds(lineages[axes[by] == value])
        arm = alone.get(frozenset(members))
        items.append(
            Group(
                key=value,
                label=f"{by.rsplit('.', 1)[-1]}={say(value)}",
                colour=arm.colour if arm else colour,
                marker=arm.marker if arm else marker,
                gid=arm.gid if arm else "value-" + re.sub(r"[^a-zA-Z0-9]+", "-", say(value)),
                lineages=members,
            )
        )
    return Groups(items=tuple(items), note="")


def placed(rows: pd.DataFrame, groups: Groups) -> pd.Series:
    """The key of each row's group, by its lineage."""
    keys = {line: group.key for group in groups for line in group.lineages}
    return rows["lineage"].map(keys)


def _seeds(lineages: pd.DataFrame) -> dict[str, int]:
    return dict(zip(lineages["lineage"], lineages["seed"], strict=True))


def _best(frame: Frame, count: int) -> tuple[frozenset[str] | None, str]:
    """The arms to colour where they are too many, and the sentence that says which these are."""
    if count <= len(LOOKS):
        return None, ""
    table = summary(frame)
    last = {
        row.arm: row.cells[-1].mean
        for row in table.rows
        if row.control == "ticket" and row.cells[-1] is not None
    }
    best = frozenset(sorted(last, key=lambda arm: (-last[arm], arm))[:BEST])
    return best, (
        f"The {len(best)} arms with the highest mean score at "
        f"{percent(table.densities[-1])} density are coloured, the other {count - len(best)} grey."
    )
