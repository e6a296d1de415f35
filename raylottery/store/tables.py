"""The tables of a sweep, derived from the records of its rounds.

A table is a function of the sweep and the records: equal ones give equal bytes, whatever the order
in which rounds finished. Columns may be added, never changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylottery.errors import Damaged, LostRound
from raylottery.store.damage import damaged, refuse_schema
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


log = logging.getLogger(__name__)


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
    how = round.prune or study.prune
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
        "scope": how.scope,
        "score_fn": how.score,
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


Parts = dict[str, pa.Table]
"""By round, its part of a table."""


def read_curves(store: Store, records: Mapping[str, Record]) -> tuple[Parts, list[LostRound]]:
    """What was measured on the way, and what is wrong with rounds where that is lost."""
    return _parts(store, records, "curve.parquet", CURVE)


def read_layers(store: Store, records: Mapping[str, Record]) -> tuple[Parts, list[LostRound]]:
    """What the masks leave of each layer, and what is wrong with rounds where that is lost."""
    return _parts(store, records, "layers.parquet", LAYER)


def _parts(
    store: Store, records: Mapping[str, Record], name: str, part: pa.Schema
) -> tuple[Parts, list[LostRound]]:
    def read(key: str) -> pa.Table | LostRound:
        try:
            data = store.read_file(records[key], name)
            return pq.ParquetFile(pa.BufferReader(data)).read(
                columns=part.names, use_threads=False
            ).cast(part)  # fmt: skip
        except LostRound as lost:
            return lost

    found = in_parallel(read, records)
    parts = {
        key: body for key, body in zip(records, found, strict=True) if isinstance(body, pa.Table)
    }
    return parts, [lost for lost in found if isinstance(lost, LostRound)]


def build_curves(sweep: str, lineages: Iterable[Lineage], curves: Parts) -> pa.Table:
    """One row a value that was measured."""
    return _gathered(sweep, lineages, curves, CURVE, CURVES)


def build_layers(sweep: str, lineages: Iterable[Lineage], layers: Parts) -> pa.Table:
    """One row a layer of a round."""
    return _gathered(sweep, lineages, layers, LAYER, LAYERS)


def _gathered(
    sweep: str, lineages: Iterable[Lineage], parts: Parts, part: pa.Schema, whole: pa.Schema
) -> pa.Table:
    """The parts of all rounds in one table, each row with the ids of its round."""
    members = [(line, round) for line, round in in_order(lineages) if round.key in parts]
    bodies = [parts[round.key] for _, round in members]
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
    lineages = list(lineages)
    arms = {lineage.arm.id: lineage.arm for lineage in lineages}
    specs = {id: arm.study.model_dump_json() for id, arm in arms.items()}
    rows = [
        {
            "sweep": sweep,
            "arm": lineage.arm.id,
            "lineage": lineage.id,
            "arm_label": lineage.arm.label,
            "seed": lineage.seed,
            "values": json.dumps(lineage.arm.values),
            "spec": specs[lineage.arm.id],
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
    return encode(typed(rows, schema))


def typed(rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; ValueError if one has other columns than the schema."""
    rows = list(rows)
    for row in rows:
        if set(row) != set(schema.names):
            odd = ", ".join(sorted(set(row) ^ set(schema.names)))
            raise ValueError(f"a row has other columns than its table: {odd}")
    # Values find their own type first: given the schema's, Arrow would cut 1.5 down to 1 unasked.
    columns = [pa.array([row[field.name] for row in rows]).cast(field.type) for field in schema]
    return pa.table(columns, schema=schema)


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
    data = sink.getvalue()
    cut = _footer(data)
    return data[:cut] + SEAL + hashlib.sha256(data).digest() + data[cut:]


SEAL = b"raylottery sha256 "
"""Between the pages and the footer of a table, where no reader looks; the checksum follows."""


def _footer(data: bytes) -> int:
    """Where the footer of a Parquet file begins."""
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def is_whole(data: bytes) -> bool:
    """Whether a table has the checksum that it carries, if it does: the first ones did not."""
    end = max(0, _footer(data))
    begin = end - len(SEAL) - hashlib.sha256().digest_size
    if begin < 0 or not data.startswith(SEAL, begin):
        return True
    return data[begin + len(SEAL) : end] == hashlib.sha256(data[:begin] + data[end:]).digest()


def read_table(
    files: Files,
    path: str,
    columns: Sequence[str] | None = None,
    dictionaries: Sequence[str] = (),
) -> pa.Table:
    """The table at a path; Damaged if it is not one that this or an older raylottery wrote."""
    data = files.read(path)
    name = path.rpartition("/")[2].removesuffix(".parquet")
    try:
        if not is_whole(data):
            raise pa.ArrowInvalid("it does not have the checksum that it carries")
        schema = pq.read_schema(pa.BufferReader(data))
        refuse_newer(schema, files.where(path))
        said = (schema.metadata or {}).get(b"raylottery.table", name.encode())
        if said != name.encode():
            raise pa.ArrowInvalid(f"it holds the {said.decode(errors='replace')} of a sweep")
        kept = [column for column in dictionaries if column in schema.names]
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=kept)
        rows = file.read(columns=columns)
        rows.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        problem = f"it cannot be read ({' '.join(str(error).split())})"
        raise Damaged(damaged(files, path, problem)) from error
    return rows


def write_table(files: Files, path: str, table: pa.Table) -> bool:
    """Puts a table at `path` unless just this one is there; whether it did.

    What is damaged is replaced, and what a newer raylottery wrote is not.
    """
    data = encode(table)
    try:
        there = files.read(path)
    except (FileNotFoundError, Damaged):
        there = b""
    if there == data:
        return False
    if there:
        try:
            refuse_newer(pq.read_schema(pa.BufferReader(there)), files.where(path))
        except (pa.ArrowException, OSError):
            log.warning("%s was damaged and is written anew", files.where(path))
    files.write(path, data)
    return True


def refuse_newer(schema: pa.Schema, place: str) -> None:
    """NewerStore for the table of a newer raylottery."""
    said = (schema.metadata or {}).get(b"raylottery.schema", b"")
    refuse_schema(int(said) if said.isdigit() else None, place)
