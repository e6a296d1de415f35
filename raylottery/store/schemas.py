"""The columns of every table, their order and their types: what people's scripts rely on."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


_TIME = pa.timestamp("us", tz="UTC")


def _schema(table: str, *groups: tuple[str, pa.DataType], nullable: Sequence[str] = ()):
    fields = [
        pa.field(name, kind, nullable=name in nullable)
        for names, kind in groups
        for name in names.split()
    ]
    return pa.schema(fields, metadata={"raylottery.table": table, "raylottery.schema": "1"})


ROUNDS = _schema(
    "rounds",
    ("sweep arm lineage key parent arm_label", pa.string()),
    ("seed round", pa.int64()),
    ("control lineage_mode", pa.string()),
    ("draw", pa.int64()),
    ("mask_source weight_source", pa.string()),
    ("density", pa.float64()),
    ("prunable kept total_params revived", pa.int64()),
    ("metric", pa.string()),
    ("score score_at_stop score_best score_late score_area", pa.float64()),
    ("train_score loss supermask_score", pa.float64()),
    ("steps env_steps", pa.int64()),
    ("stopped_by", pa.string()),
    ("stop_step min_loss_step", pa.int64()),
    ("trainer task model engine scope score_fn rewind_weights rewind_clock", pa.string()),
    ("fraction seconds", pa.float64()),
    ("reused", pa.bool_()),
    ("attempt", pa.int64()),
    ("started_at finished_at", _TIME),
    ("host device version", pa.string()),
    nullable=("parent", "supermask_score", "env_steps", "stop_step", "min_loss_step"),
)

_CURVE = (
    ("step env_step", pa.int64()),
    ("split metric", pa.string()),
    ("value", pa.float64()),
)
_LAYER = (
    ("layer shape", pa.string()),
    ("prunable kept", pa.int64()),
    ("density", pa.float64()),
    ("dead_in dead_out flops_kept", pa.int64()),
)
_IDS = (
    ("sweep lineage control lineage_mode", pa.string()),
    ("draw round", pa.int64()),
)

IDS = _schema("ids", *_IDS)

CURVE = _schema("curve", *_CURVE, nullable=("env_step",))
"""`curve.parquet` of one round."""
LAYER = _schema("layer", *_LAYER)
"""`layers.parquet` of one round."""

CURVES = _schema("curves", *_IDS, *_CURVE, nullable=("env_step",))
LAYERS = _schema("layers", *_IDS, *_LAYER)

FAILURES = _schema(
    "failures",
    ("sweep lineage control", pa.string()),
    ("round attempt", pa.int64()),
    ("error first_line log", pa.string()),
    ("at", _TIME),
)

LINEAGES = _schema(
    "lineages",
    ("sweep arm lineage arm_label", pa.string()),
    ("seed", pa.int64()),
    ("values spec", pa.string()),
)

_TICKET = (
    ("sweep arm arm_label lineage", pa.string()),
    ("seed round", pa.int64()),
    ("density", pa.float64()),
)
_CONTROL = (*_TICKET, ("control lineage_mode", pa.string()), ("draw", pa.int64()))

ANALYSES = {
    "connectivity": _schema(
        "connectivity",
        *_TICKET,
        ("other rewind_weights", pa.string()),
        ("alpha error barrier", pa.float64()),
        ("batch_norm", pa.string()),
    ),
    "overlap": _schema(
        "overlap",
        *_TICKET,
        ("kind other_lineage", pa.string()),
        ("other_round kept_both kept_either", pa.int64()),
        ("overlap chance", pa.float64()),
    ),
    "profiles": _schema(
        "profiles",
        *_CONTROL,
        ("layer", pa.string()),
        ("index prunable kept", pa.int64()),
        ("layer_density share_of_kept relative", pa.float64()),
    ),
    "inputs": _schema(
        "inputs",
        *_CONTROL,
        ("input", pa.int64()),
        ("input_kind", pa.string()),
        ("source", pa.int64()),
        ("name", pa.string()),
        ("fanout", pa.int64()),
        ("share", pa.float64()),
        ("alive", pa.bool_()),
        nullable=("source",),
    ),
    "dormant": _schema(
        "dormant",
        *_CONTROL,
        ("layer", pa.string()),
        ("units dead dormant", pa.int64()),
    ),
    "size": _schema(
        "size",
        *_CONTROL,
        ("params params_kept", pa.int64()),
        ("compression", pa.float64()),
        ("macs macs_kept", pa.int64()),
        ("speedup", pa.float64()),
        nullable=("speedup",),
    ),
}
"""What `raylottery analyse` writes, by the kind that is asked for."""
