"""The tables of a sweep, derived from the records of its rounds.

A table is a function of the sweep and the records: equal ones give equal bytes, whatever the order
in which rounds finished. Columns may be added, never changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylottery.store.files import Files
from raylottery.store.record import Record
from raylottery.store.rounds import Store, in_parallel
from raylottery.store.schemas import (
    CURVE,
    CURVES,
    FAILURES,
    IDS,
    LAYER,
    LAYERS,
    LINEAGES,
    ROUNDS,
)


if TYPE_CHECKING:
    from raylottery.spec import Lineage, Round


def build_rounds(
    sweep: str, lineages: Iterable[Lineage], records: Mapping[str, Record]
) -> pa.Table:
    """One row a (lineage, control, lineage_mode, draw, round) that has a record."""
    rows = []
    trained: set[str] = set()
    for lineage, round in in_order(lineages):
        record = records.get(round.key)
        if record is None:
            continue
        first = record.trained_by == sweep and round.key not in trained
        trained.add(round.key)
        rows.append(_round_row(sweep, lineage, round, record, reused=not first))
    return pa.Table.from_pylist(rows, schema=ROUNDS)


def _round_row(
    sweep: str, lineage: Lineage, round: Round, record: Record, *, reused: bool
) -> dict[str, object]:
    study = lineage.arm.study
    return {
        **record.result,
        "sweep": sweep,
        "arm": lineage.arm.id,
        "lineage": lineage.id,
        "key": round.key,
        "parent": round.parent,
        "arm_label": lineage.arm.label,
        "seed": lineage.seed,
        "round": round.index,
        "control": round.control,
        "lineage_mode": round.lineage_mode,
        "draw": round.draw,
        "mask_source": round.mask_source,
        "weight_source": round.weight_source,
        "trainer": study.trainer.kind,
        "task": study.trainer.task,
        "model": study.trainer.model,
        "engine": study.trainer.engine,
        "scope": study.prune.scope,
        "score_fn": study.prune.score,
        "rewind_weights": str(study.rewind.weights),
        "rewind_clock": str(study.rewind.restart),
        "fraction": study.prune.fraction,
        "seconds": record.seconds,
        "reused": reused,
        "attempt": record.attempt,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "host": record.host,
        "device": record.device,
        "version": record.version,
    }


def build_curves(
    store: Store, sweep: str, lineages: Iterable[Lineage], records: Mapping[str, Record]
) -> pa.Table:
    """What was measured on the way, one row a value."""
    return _gathered(store, sweep, lineages, records, "curve.parquet", CURVE, CURVES)


def build_layers(
    store: Store, sweep: str, lineages: Iterable[Lineage], records: Mapping[str, Record]
) -> pa.Table:
    """What the masks leave of each layer, one row a layer of a round."""
    return _gathered(store, sweep, lineages, records, "layers.parquet", LAYER, LAYERS)


def _gathered(
    store: Store,
    sweep: str,
    lineages: Iterable[Lineage],
    records: Mapping[str, Record],
    name: str,
    part: pa.Schema,
    whole: pa.Schema,
) -> pa.Table:
    """The files of this name of all rounds in one table, each row with the ids of its round."""

    def read(key: str) -> pa.Table:
        file = pq.ParquetFile(pa.BufferReader(store.read_file(records[key], name)))
        return file.read(columns=part.names, use_threads=False).cast(part)

    members = [(line, round) for line, round in in_order(lineages) if round.key in records]
    keys = list(dict.fromkeys(round.key for _, round in members))
    tables = dict(zip(keys, in_parallel(read, keys), strict=True))
    bodies = [tables[round.key] for _, round in members]
    ids = pa.Table.from_pylist([_ids(sweep, line, round) for line, round in members], IDS)
    repeats = np.repeat(np.arange(len(members)), [body.num_rows for body in bodies])
    columns = ids.take(pa.array(repeats)).columns
    columns += pa.concat_tables([part.empty_table(), *bodies]).columns
    return pa.table(columns, schema=whole)


def _ids(sweep: str, lineage: Lineage, round: Round) -> dict[str, object]:
    return {
        "sweep": sweep,
        "lineage": lineage.id,
        "control": round.control,
        "lineage_mode": round.lineage_mode,
        "draw": round.draw,
        "round": round.index,
    }


def build_failures(store: Store, sweep: str, lineages: Iterable[Lineage]) -> pa.Table:
    """One row an attempt of this sweep that failed."""
    keys = sorted({round.key for _, round in in_order(lineages)})
    notes = [note for notes in in_parallel(store.failures, keys) for note in notes]
    rows = [
        {**note, "at": datetime.fromisoformat(note["at"])}
        for note in notes
        if note["sweep"] == sweep
    ]
    rows.sort(key=lambda row: (row["lineage"], row["round"], row["control"], row["at"]))
    return pa.Table.from_pylist(rows, schema=FAILURES)


def build_lineages(sweep: str, lineages: Iterable[Lineage]) -> pa.Table:
    """One row a lineage: ids, label, axis values and the whole spec as JSON."""
    rows = [
        {
            "sweep": sweep,
            "arm": lineage.arm.id,
            "lineage": lineage.id,
            "arm_label": lineage.arm.label,
            "seed": lineage.seed,
            "values": json.dumps(lineage.arm.values),
            "spec": lineage.arm.study.model_dump_json(),
        }
        for lineage in sorted(lineages, key=_lineage_order)
    ]
    return pa.Table.from_pylist(rows, schema=LINEAGES)


def in_order(lineages: Iterable[Lineage]) -> Iterator[tuple[Lineage, Round]]:
    """Every round of every lineage, in the order of the tables' rows."""
    for lineage in sorted(lineages, key=_lineage_order):
        for round in sorted(lineage.rounds, key=_round_order):
            yield lineage, round


def _lineage_order(lineage: Lineage):
    return lineage.arm.label, lineage.arm.id, lineage.seed, lineage.id


def _round_order(round: Round):
    return (
        round.index,
        round.control != "ticket",
        round.control,
        round.lineage_mode,
        round.draw,
    )


def to_bytes(rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> bytes:
    """Rows as the bytes of a Parquet file; ValueError if one has other columns than the schema."""
    rows = list(rows)
    for row in rows:
        if set(row) != set(schema.names):
            odd = ", ".join(sorted(set(row) ^ set(schema.names)))
            raise ValueError(f"a row has other columns than its table: {odd}")
    # Values find their own type first: given the schema's, Arrow would cut 1.5 down to 1 unasked.
    columns = [pa.array([row[field.name] for row in rows]).cast(field.type) for field in schema]
    return encode(pa.table(columns, schema=schema))


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file: equal rows give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(
        table.combine_chunks(),  # pages follow chunks, and chunks follow how it was built
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        row_group_size=1 << 20,
        store_schema=True,
    )
    return sink.getvalue()


def write_table(files: Files, path: str, table: pa.Table) -> bool:
    """Puts a table at `path` unless just this one is there; whether it did."""
    return files.write_if_changed(path, encode(table))
