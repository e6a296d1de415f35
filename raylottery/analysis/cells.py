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

from raylottery.analysis.fields import axis_values, in_order, say, spec_fields
from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import Curves, curves
from raylottery.errors import UsageError, did_you_mean


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

CELL = ["seed", "context", "value"]

TICKET = json.dumps("ticket")


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


def read_curves(frame: Frame, metric: str, *, tickets_only: bool = False) -> Curves:
    """The curves of all lineages; those that two sweeps share once."""
    identity = ["lineage", "control", "lineage_mode", "draw", "round"]
    columns = [*identity, "seed", "density", "prunable", "steps", "metric", metric]
    table = frame.read("rounds", columns)
    if tickets_only:
        table = table.filter(pc.field("control") == "ticket")
    rounds = table.to_pandas()
    if len(frame.names) > 1:
        rounds = rounds.drop_duplicates(identity)
    if metric not in rounds or rounds[metric].isna().all():
        raise UsageError(
            f"no finished round of {', '.join(frame.names)} has a {metric}. "
            "See `raylottery status` for what is done."
        )
    measured = curves(rounds, metric=metric)
    table = measured.table
    own = (table["control"] != "ticket") & (table["lineage_mode"] == "own")
    control = table["control"].mask(own, table["control"] + " (own)")
    return dataclasses.replace(measured, table=table.assign(control=control))


def field_cells(frame: Frame, by: str, metric: str) -> Cells:
    """Cells of tickets, told apart by one field of the spec, an axis, or the arm's label."""
    lineages = frame.lineages.drop_duplicates("lineage").reset_index(drop=True)
    fields = _fields(lineages, by)
    varying = [name for name in fields if fields[name].nunique() > 1]
    values = in_order(fields[by])
    if len(values) < 2:
        among = ", ".join(name for name in varying if name != "arm_label") or "nothing"
        raise UsageError(
            f"{by} is {say(values[0])} in every lineage, and a comparison needs two values. "
            f"What varies here: {among}."
        )
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
    measured = read_curves(frame, metric, tickets_only=True)
    places = lineages.set_index("lineage")[["context", "value"]]
    table = measured.table.join(places, on="lineage", validate="many_to_one")
    return Cells(
        values=tuple(values),
        planned=planned,
        curves=dataclasses.replace(measured, table=table),
        notes=tuple(notes),
    )


def control_cells(frame: Frame, metric: str) -> Cells:
    """Cells of one lineage each: its tickets and its controls."""
    measured = read_curves(frame, metric)
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


def _fields(lineages: pd.DataFrame, by: str) -> pd.DataFrame:
    """The fields that may tell lineages apart, `by` among them."""
    fields = spec_fields(lineages)
    fields["arm_label"] = lineages["arm_label"].map(json.dumps)
    if by in fields:
        return fields
    axes = axis_values(lineages)
    if by not in axes:
        known = sorted({"control", *fields, *axes})
        raise UsageError(f"no field {by!r} to compare by. {did_you_mean(by, known)}")
    parts = [name for name in fields if name.startswith(f"{by}.")]
    return fields.drop(columns=parts).assign(**{by: axes[by]})


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
