"""The tables of a report: arms, lineages with their rounds, failures.

A page must stay small enough to mail. What a big sweep has too much of is left out from the end,
counted, and the command that shows it is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from raylottery.analysis.figures.groups import Group, arms
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND
from raylottery.analysis.report.missing import Progress, has
from raylottery.analysis.stats import Estimate
from raylottery.analysis.summary import SummaryRow, summary
from raylottery.errors import UsageError


MOST_ARMS = 1000
MOST_ROUNDS = 8000
MOST_FAILURES = 300


@dataclass(frozen=True, kw_only=True)
class Toggle:
    """What readers may take away from the figures: an arm, or all grey ones."""

    ids: tuple[str, ...]
    label: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as it is shown and as it is sorted by."""

    text: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    label: str
    control: str
    colour: str
    seeds: Cell
    rounds: Cell
    scores: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class ArmTable:
    """Arms and their controls by density, with how far each has come."""

    densities: tuple[float, ...]
    rows: tuple[ArmRow, ...]
    left_out: int
    stored_as: tuple[str, ...]
    with_controls: bool
    toggles: tuple[Toggle, ...]


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    round: int
    control: str
    density: str
    score: str
    steps: str
    stopped_by: str
    seconds: str


@dataclass(frozen=True, kw_only=True)
class LineageRows:
    id: str
    label: str
    seed: int
    done: int
    planned: int
    last: str
    rounds: tuple[RoundRow, ...]


@dataclass(frozen=True, kw_only=True)
class LineageList:
    items: tuple[LineageRows, ...]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class FailureRow:
    sweep: str
    arm: str
    seed: str
    lineage: str
    where: str
    attempt: int
    error: str
    text: str
    log: str


@dataclass(frozen=True, kw_only=True)
class FailureTable:
    rows: tuple[FailureRow, ...]
    left_out: int
    lineages: int
    """how many lineages failed and are not finished"""
    known: bool
    """whether the table is written for all of the sweeps"""


class Arm(NamedTuple):
    """How far one arm has come."""

    arm: str
    arm_label: str
    seeds: int
    whole: int
    done: int
    planned: int


def arm_table(frame: Frame, done: Progress) -> ArmTable:
    """One row an arm and one a control of it; arms without a finished round have one too."""
    try:
        found = summary(frame)
        densities, measured = found.densities, found.rows
    except UsageError:
        densities, measured = (), ()
    drawn = {group.key: group for group in _drawn(frame)}
    place = {arm: index for index, arm in enumerate(drawn)}
    lineages = done.lineages.assign(whole=done.lineages["done"] >= done.lineages["planned"])
    table = lineages.groupby(["arm", "arm_label"], sort=False, as_index=False).agg(
        seeds=("seed", "nunique"),
        whole=("whole", "sum"),
        done=("done", "sum"),
        planned=("planned", "sum"),
    )
    table = table.sort_values("arm", key=lambda arm: arm.map(place), kind="stable")
    rows_of: dict[str, list[SummaryRow]] = {}
    for row in measured:
        rows_of.setdefault(row.arm, []).append(row)
    rows = [
        row
        for arm in map(Arm._make, table.head(MOST_ARMS).itertuples(index=False))
        for row in _arm_rows(arm, rows_of.get(arm.arm, []), drawn.get(arm.arm), densities)
    ]
    return ArmTable(
        densities=densities,
        rows=tuple(rows),
        left_out=max(0, len(table) - MOST_ARMS),
        stored_as=tuple(sorted({row.stored_as for row in measured})),
        with_controls=any(row.control != "ticket" for row in measured),
        toggles=_toggles(drawn.values()),
    )


def _toggles(drawn: Iterable[Group]) -> tuple[Toggle, ...]:
    loud = [group for group in drawn if not group.quiet]
    quiet = [group for group in drawn if group.quiet]
    found = [Toggle(ids=(one.key,), label=one.label, colour=one.colour) for one in loud]
    if quiet:
        ids = tuple(group.key for group in quiet)
        label = f"{len(quiet):,} other arms"
        found.append(Toggle(ids=ids, label=label, colour=quiet[0].colour))
    return tuple(found)


def _arm_rows(
    arm: Arm, measured: Iterable[SummaryRow], group: Group | None, densities: tuple[float, ...]
) -> Iterable[ArmRow]:
    label, colour = (group.label, group.colour) if group else (arm.arm_label, "")
    shown = sorted(measured, key=lambda row: row.control != "ticket")
    seeds = Cell(text=f"{arm.whole} of {arm.seeds}", value=float(arm.whole))
    rounds = Cell(text=f"{arm.done:,} of {arm.planned:,}", value=float(arm.done))
    if not shown:
        empty = tuple(Cell(text="", value=None) for _ in densities)
        yield ArmRow(
            label=label, control="ticket", colour=colour, seeds=seeds, rounds=rounds,
            scores=empty,
        )  # fmt: skip
    for row in shown:
        yield ArmRow(
            label=label,
            control=row.control,
            colour=colour if row.control == "ticket" else "",
            seeds=seeds,
            rounds=rounds,
            scores=tuple(_score(cell, row.stored_as) for cell in row.cells),
        )


def _score(found: Estimate | None, stored_as: str) -> Cell:
    if found is None:
        return Cell(text="", value=None)
    factor = 100.0 if stored_as == "accuracy" else 1.0
    text = f"{factor * found.mean:.1f}"
    if found.high is not None:
        text += f" \u00b1 {factor * (found.high - found.mean):.1f}"
    return Cell(text=text, value=factor * found.mean)


def _drawn(frame: Frame) -> tuple[Group, ...]:
    """The arms as the figures name and colour them."""
    try:
        return tuple(arms(frame))
    except UsageError:  # too little is finished to choose whom to colour
        return ()


def lineage_list(frame: Frame, done: Progress) -> LineageList:
    """Each lineage with its finished rounds, as many as fit."""
    columns = [*ROUND, "density", "metric", "score", "steps", "stopped_by", "seconds"]
    rounds = frame.read("rounds", columns).to_pandas().drop_duplicates(ROUND)
    rounds["lineage"] = rounds["lineage"].astype(str)
    sizes = done.lineages["done"].cumsum()
    kept = done.lineages[sizes <= MOST_ROUNDS]
    shown = rounds[rounds["lineage"].isin(set(kept["lineage"]))]
    rows_of = {
        lineage: tuple(_round(row) for row in part.to_dict("records"))
        for lineage, part in shown.groupby("lineage", sort=False)
    }
    items = tuple(
        LineageRows(
            id=line.lineage,
            label=line.arm_label,
            seed=line.seed,
            done=line.done,
            planned=line.planned,
            last=next(
                (
                    f"{row.score} at {row.density}"
                    for row in reversed(rows_of.get(line.lineage, ()))
                    if row.control == "ticket"
                ),
                "",
            ),
            rounds=rows_of.get(line.lineage, ()),
        )
        for line in kept.itertuples()
    )
    return LineageList(items=items, left_out=len(done.lineages) - len(kept))


def _round(row: dict) -> RoundRow:
    factor = 100.0 if row["metric"] == "accuracy" else 1.0
    sign = " %" if row["metric"] == "accuracy" else ""
    return RoundRow(
        round=row["round"],
        control=row["control"],
        density=f"{100 * row['density']:.3g} %",
        score="" if pd.isna(row["score"]) else f"{factor * row['score']:.1f}{sign}",
        steps=f"{row['steps']:,}",
        stopped_by=row.get("stopped_by") or "",
        seconds=f"{row['seconds']:.1f}" if "seconds" in row else "",
    )


def failure_table(frame: Frame) -> FailureTable:
    """Every failed attempt, the newest last."""
    written = tuple(name for name in frame.names if has(frame, name, "failures"))
    known = len(written) == len(frame.names)
    if not written:
        return FailureTable(rows=(), left_out=0, lineages=0, known=known)
    part = Frame(names=written, files=frame.files)
    failed = part.read("failures").to_pandas()
    lineages = frame.lineages.drop_duplicates("lineage").set_index("lineage")
    rows = tuple(
        FailureRow(
            sweep=row["sweep"],
            arm=lineages["arm_label"].get(row["lineage"], ""),
            seed=str(lineages["seed"].get(row["lineage"], "")),
            lineage=row["lineage"],
            where=f"{row['round']}, {row['control']}",
            attempt=row["attempt"],
            error=row["error"],
            text=row["first_line"][:2000],
            log=row["log"],
        )
        for row in failed.head(MOST_FAILURES).to_dict("records")
    )
    return FailureTable(
        rows=rows,
        left_out=max(0, len(failed) - MOST_FAILURES),
        lineages=_still_failed(failed, frame),
        known=known,
    )


def _still_failed(failed: pd.DataFrame, frame: Frame) -> int:
    """How many lineages have a failed round that was not finished afterwards."""
    columns = ["lineage", "control", "round"]
    finished = frame.read("rounds", columns).to_pandas().astype({"lineage": str, "control": str})
    both = failed[columns].merge(finished, on=columns, how="left", indicator=True)
    return both.loc[both["_merge"] == "left_only", "lineage"].nunique()
