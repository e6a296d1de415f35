"""Which lineages stand against which: curves sorted into cells of (seed, context, value).

A *value* is what is compared, a *context* everything else in which lineages differ. Two cells
with the same seed and context are a pair. A field that takes one value with each of the compared
ones (two axes zipped, two sweeps with different settings) cannot be held equal: a note says so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from raylottery.analysis.fields import axis_values, in_order, rank, say, spec_fields
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND, Curves, curves, flops_shares, pruned_shares
from raylottery.errors import NothingYet, UsageError, did_you_mean


METRICS = (
    "score",
    "score_at_stop",
    "score_best",
    "score_late",
    "score_area",
    "train_score",
    "loss",
    "supermask_score",
)

MATCHED = ("density", "flops", "pruned")
"""What two sides of a comparison have the same of: weights, FLOPs, weights of what they prune."""

CELL = ["seed", "context", "value"]

TICKET = json.dumps("ticket")

Pairing = tuple[str, str]
"""A value and its reference."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The measured curves and the planned cells of one comparison."""

    values: tuple[str, ...]
    """what is compared, as JSON text, in the order people list it"""
    planned: pd.DataFrame
    curves: Curves
    notes: tuple[str, ...] = ()

    def wide(self, figures: np.ndarray | pd.Series) -> pd.DataFrame:
        """One figure a curve as a table: a row for each (seed, context), a column for each value.

        Several draws of a control are one cell: their mean.
        """
        rows = self.curves.table[CELL].assign(figure=np.asarray(figures))
        means = rows.groupby(CELL)["figure"].mean()
        return means.unstack("value").reindex(columns=list(self.values))

    def planned_pairs(self, value: str, reference: str) -> int:
        """How many pairs there are once every planned lineage is measured."""
        sides = self.planned[self.planned["value"].isin([value, reference])]
        return int((sides.groupby(["seed", "context"])["value"].nunique() == 2).sum())


def read_curves(
    frame: Frame, metric: str, *, matched: str = "density", tickets_only: bool = False
) -> Curves:
    """The curves of all lineages; those that two sweeps share once."""
    columns = [*ROUND, "seed", "density", "prunable", "steps", "metric", metric]
    rounds = _read(frame, "rounds", columns, ROUND, tickets_only=tickets_only)
    if metric not in rounds or rounds[metric].isna().all():
        refused = NothingYet if rounds.empty else UsageError
        raise refused(
            f"no finished round of {', '.join(frame.names)} has a {metric}. "
            f"See `raylottery status {frame.names[0]}` for what is done."
        )
    if matched != "density":
        columns = [*ROUND, "layer", "prunable", "kept", "flops_kept"]
        layers = _read(frame, "layers", columns, [*ROUND, "layer"], tickets_only=False)
        shares = flops_shares(layers) if matched == "flops" else pruned_shares(layers)
        share = rounds[ROUND].merge(shares, on=ROUND, how="left")["share"]
        rounds = rounds.assign(density=share.to_numpy())
    measured = curves(rounds, metric=metric)
    table = measured.table
    own = (table["control"] != "ticket") & (table["lineage_mode"] == "own")
    control = table["control"].mask(own, table["control"] + " (own)")
    return dataclasses.replace(measured, table=table.assign(control=control))


def _read(
    frame: Frame, name: str, columns: Sequence[str], unique: list[str], *, tickets_only: bool
) -> pd.DataFrame:
    table = frame.read(name, columns)
    if tickets_only:
        table = table.filter(pc.field("control") == "ticket")
    rows = table.to_pandas()
    return rows.drop_duplicates(unique) if len(frame.names) > 1 else rows


def field_cells(frame: Frame, asked: Sequence[str], metric: str, matched: str) -> Cells:
    """Cells of tickets, told apart by fields of the spec, axes, or the arm's label.

    Several fields are one: each combination of their values that some lineage has is a value.
    """
    lineages = frame.lineages.drop_duplicates("lineage").reset_index(drop=True)
    fields = _fields(lineages, asked)
    _refuse_one_value(fields, asked)
    by = ", ".join(asked)
    values = in_order(fields[by]) if len(asked) == 1 else _combine(fields, asked, by)
    varying = [name for name in fields if fields[name].nunique() > 1]
    together = _bound_to(by, fields[varying])
    others = [name for name in varying if name not in (by, "arm_label", *together)]
    _refuse_unequal_lengths(by, together)
    lineages["context"] = fields.groupby(others).ngroup() if others else 0
    lineages["value"] = fields[by]
    planned = lineages[CELL].drop_duplicates()
    _refuse_unpaired(by, planned, others)
    notes = [] if by == "arm_label" else [_bound_note(by, *item) for item in together.items()]
    if others:
        notes.append(f"Differences are averaged over {', '.join(others)} within each seed.")
    if {"prune.only"} & {*asked, *together} and matched == "density":
        notes.append(
            f"these arms prune different layers, and {by} is compared at equal density of the "
            "whole network. At equal density of what each arm prunes: --matched pruned."
        )
    measured = read_curves(frame, metric, matched=matched, tickets_only=True)
    places = lineages.set_index("lineage")[["context", "value"]]
    table = measured.table.join(places, on="lineage", validate="many_to_one")
    return Cells(
        values=tuple(values),
        planned=planned,
        curves=dataclasses.replace(measured, table=table),
        notes=tuple(notes),
    )


def control_cells(frame: Frame, metric: str, matched: str) -> Cells:
    """Cells of one lineage each: its tickets and its controls."""
    measured = read_curves(frame, metric, matched=matched)
    labels = measured.table["control"].map(json.dumps)
    values = [TICKET, *sorted(set(labels) - {TICKET})]
    if len(values) < 2:
        raise UsageError(
            "these sweeps have no finished controls to compare with. Add "
            "`controls: [random-ticket]` to the sweep and run it again: only those are trained."
        )
    lineages = frame.lineages.drop_duplicates("lineage")
    planned = lineages[["seed"]].assign(context=lineages["lineage"])
    planned = planned.merge(pd.DataFrame({"value": values}), how="cross")
    several = lineages["arm"].nunique() > 1
    averaged = ("Differences are averaged over the arms within each seed.",) if several else ()
    table = measured.table.assign(context=measured.table["lineage"], value=labels)
    return Cells(
        values=tuple(values),
        planned=planned,
        curves=dataclasses.replace(measured, table=table),
        notes=averaged,
    )


def _fields(lineages: pd.DataFrame, asked: Sequence[str]) -> pd.DataFrame:
    """The fields that may tell lineages apart, those asked for among them."""
    fields = spec_fields(lineages)
    fields["arm_label"] = lineages["arm_label"].map(json.dumps)
    axes = axis_values(lineages)
    for name in asked:
        if name in fields:
            continue
        if name not in axes:
            if name == "control":
                raise UsageError(
                    "`control` is compared by itself, each ticket with the controls of its own "
                    "lineage. Ask for it alone: --by control."
                )
            known = sorted({"control", *fields, *axes})
            raise UsageError(f"no field {name!r} to compare by. {did_you_mean(name, known)}")
        parts = [part for part in fields if part.startswith(f"{name}.")]
        fields = fields.drop(columns=parts).assign(**{name: axes[name]})
    follows = "rewind.clock" not in asked and "rewind.clock" in fields
    if follows and fields["rewind.clock"].equals(fields["rewind.weights"]):
        fields = fields.drop(columns="rewind.clock")  # one place, and no second difference
    return fields


def _refuse_one_value(fields: pd.DataFrame, asked: Sequence[str]) -> None:
    for name in asked:
        if fields[name].nunique() > 1:
            continue
        varies = [other for other in fields if fields[other].nunique() > 1]
        among = ", ".join(other for other in varies if other != "arm_label")
        mend = (
            f"What varies here: {among}."
            if among
            else f"Add an axis to the sweep, such as axes: {{{name}: [...]}}, or compare tickets "
            "with their controls: --by control."
        )
        raise UsageError(
            f"{name} is {say(fields[name].iloc[0])} in every lineage, and a comparison needs two "
            f"values. {mend}"
        )


def _combine(fields: pd.DataFrame, asked: Sequence[str], by: str) -> list[str]:
    """Replace several fields by one called `by`; its values, in the order of people."""
    last = [name.rpartition(".")[2] for name in asked]
    heads = last if len(set(last)) == len(last) else asked
    cells = list(zip(*(fields.pop(name) for name in asked), strict=True))
    labels = {
        parts: json.dumps(
            " ".join(f"{head}={say(cell)}" for head, cell in zip(heads, parts, strict=True))
        )
        for parts in sorted(set(cells), key=lambda parts: [rank(cell) for cell in parts])
    }
    fields[by] = [labels[parts] for parts in cells]
    return list(labels.values())


def _bound_to(by: str, fields: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The other fields that have one value with each value of `by`: field -> value -> its own."""
    per_value = fields.drop_duplicates().groupby(by)
    alone = per_value.nunique().max() == 1
    first = per_value.first()
    return {name: first[name].to_dict() for name in alone.index[alone] if name != "arm_label"}


def _bound_note(by: str, name: str, values: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{say(values[value])} with {say(value)}" for value in in_order(values))
    return f"{name} changes together with {by} ({pairs}): the effect is of both."


def _refuse_unequal_lengths(by: str, together: Mapping[str, Mapping[str, str]]) -> None:
    for name, values in together.items():
        if name.rsplit(".", 1)[-1] == "length" and len(set(values.values())) > 1:
            lengths = ", ".join(f"{say(values[key])} with {say(key)}" for key in in_order(values))
            raise UsageError(
                f"not comparable by {by}: the trainings differ in length ({lengths}). "
                f"Give both the same {name}, or compare by {name} itself."
            )


def _refuse_unpaired(by: str, planned: pd.DataFrame, others: Sequence[str]) -> None:
    sides = planned.groupby(["seed", "context"])["value"].nunique()
    if sides.max() > 1:
        return
    raise UsageError(
        f"no two lineages have the same seed and differ in {by} alone. What else varies: "
        f"{', '.join(others) or 'only the seeds, and no seed has two values'}. "
        "Compare whole arms with `--by arm_label`, or add the missing cells to the sweep."
    )
