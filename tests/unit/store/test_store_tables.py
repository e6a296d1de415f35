"""Tables are what the contract says, to the byte, in whatever order the rounds finished."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylottery.errors import Damaged, NewerStore
from raylottery.spec import Sweep
from raylottery.store import Store, layout, tables
from raylottery.store.local import LocalFiles
from raylottery.store.schemas import CURVE, CURVES, FAILURES, LAYER, LAYERS, LINEAGES, ROUNDS


S, N, F, B, T = "string", "int64", "double", "bool", "timestamp[us, tz=UTC]"

COLUMNS = [
    *[(name, S) for name in ("sweep", "arm", "lineage", "key", "parent", "arm_label")],
    *[("seed", N), ("round", N), ("control", S), ("lineage_mode", S), ("draw", N)],
    *[("mask_source", S), ("weight_source", S), ("density", F)],
    *[(name, N) for name in ("prunable", "kept", "total_params", "revived")],
    ("metric", S),
    *[(name, F) for name in ("score", "score_at_stop", "score_best", "score_late", "score_area")],
    *[(name, F) for name in ("train_score", "loss", "supermask_score")],
    *[("steps", N), ("env_steps", N), ("stopped_by", S), ("stop_step", N), ("min_loss_step", N)],
    *[(name, S) for name in ("trainer", "task", "model", "engine")],
    *[(name, S) for name in ("scope", "score_fn", "rewind_weights", "rewind_clock")],
    *[("fraction", F), ("seconds", F), ("reused", B), ("attempt", N)],
    *[("started_at", T), ("finished_at", T), ("host", S), ("device", S), ("version", S)],
]
IDS = [
    ("sweep", S),
    ("lineage", S),
    ("control", S),
    ("lineage_mode", S),
    ("draw", N),
    ("round", N),
]
CURVE_COLUMNS = [("step", N), ("env_step", N), ("split", S), ("metric", S), ("value", F)]
LAYER_COLUMNS = [
    *[("layer", S), ("shape", S), ("prunable", N), ("kept", N), ("density", F)],
    *[("dead_in", N), ("dead_out", N), ("flops_kept", N)],
]


@pytest.mark.parametrize(
    ("schema", "columns", "nullable"),
    [
        (
            ROUNDS,
            COLUMNS,
            {"parent", "supermask_score", "env_steps", "stop_step", "min_loss_step"},
        ),
        (CURVES, IDS + CURVE_COLUMNS, {"env_step"}),
        (LAYERS, IDS + LAYER_COLUMNS, set()),
        (CURVE, CURVE_COLUMNS, {"env_step"}),
        (LAYER, LAYER_COLUMNS, set()),
        (
            FAILURES,
            [
                *[("sweep", S), ("lineage", S), ("control", S), ("round", N), ("attempt", N)],
                *[("error", S), ("first_line", S), ("log", S), ("at", T)],
            ],
            set(),
        ),
        (
            LINEAGES,
            [
                *[("sweep", S), ("arm", S), ("lineage", S), ("arm_label", S), ("seed", N)],
                *[("values", S), ("spec", S)],
            ],
            set(),
        ),
    ],
)
def test_columns_are_those_of_the_contract(schema, columns, nullable):
    assert [(field.name, str(field.type)) for field in schema] == columns
    assert {field.name for field in schema if field.nullable} == nullable


@pytest.fixture
def filled(local, study, commit) -> Store:
    """A store with all of it, trained by sweep `s`, but for one trunk that `other` trained."""
    store = Store(local)
    for lineage in study:
        for round in lineage.rounds:
            foreign = lineage.seed == 1 and round.index == 0
            commit(store, round, sweep="other" if foreign else "s", score=0.5 + round.index / 10)
    return store


def records_of(store: Store, lineages) -> dict:
    return store.records({round.key for lineage in lineages for round in lineage.rounds})


def test_rows_are_sorted_and_say_what_they_are(filled, study):
    rows = tables.build_rounds("s", study, records_of(filled, study)).to_pylist()
    order = [(r["arm_label"], r["seed"], r["round"], r["control"], r["draw"]) for r in rows]
    one_lineage = [
        *[(0, "ticket", 0), (1, "ticket", 0), (1, "random-ticket", 0), (1, "random-ticket", 1)]
    ]
    assert order == [
        (label, seed, *row)
        for label in ("scope=global", "scope=layerwise")
        for seed in (0, 1)
        for row in one_lineage
    ]
    first = rows[0]
    assert first["sweep"] == "s"
    assert first["arm"] == study[1].arm.id
    assert first["lineage"] == study[3].id
    assert first["parent"] is None
    assert rows[1]["parent"] == first["key"]
    assert (first["score"], rows[1]["score"]) == (0.5, 0.6)
    assert (first["scope"], rows[-1]["scope"]) == ("global", "layerwise")
    assert (first["rewind_weights"], first["rewind_clock"]) == ("init", "init")
    assert (first["task"], first["model"], first["engine"]) == ("mnist1d", "mlp-30-10", "torch")
    assert (first["lineage_mode"], rows[2]["lineage_mode"]) == ("own", "branch")
    assert first["started_at"] == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert first["env_steps"] is None


def test_the_step_of_the_lowest_loss_is_null_for_rounds_that_were_kept_without_it(
    local, study, commit
):
    """As those of before the column was there, whose records still hold."""
    store = Store(local)
    lineage = study[0]
    _, control, ticket, dense = lineage.rounds
    commit(store, dense)
    commit(store, ticket, min_loss_step=35)
    commit(store, control, min_loss_step=None)
    records = records_of(store, [lineage])
    assert "min_loss_step" not in records[dense.key].result
    table = tables.build_rounds("s", [lineage], records)
    assert table.schema == ROUNDS
    rows = table.to_pylist()
    assert [(row["control"], row["round"], row["min_loss_step"]) for row in rows] == [
        ("ticket", 0, None), ("ticket", 1, 35), ("random-ticket", 1, None),
    ]  # fmt: skip


def test_reused_is_false_once_for_each_key_that_this_sweep_trained(filled, study):
    rows = tables.build_rounds("s", study, records_of(filled, study)).to_pylist()
    dense = [(row["arm_label"], row["seed"], row["reused"]) for row in rows if row["round"] == 0]
    assert dense == [
        ("scope=global", 0, False),  # trained here
        ("scope=global", 1, True),  # trained by the other sweep
        ("scope=layerwise", 0, True),  # shared with the first arm
        ("scope=layerwise", 1, True),
    ]
    assert not any(row["reused"] for row in rows if row["round"] == 1)
    trained = {row["key"] for row in rows if not row["reused"]}
    assert len(trained) == sum(not row["reused"] for row in rows) == 13
    other = tables.build_rounds("other", study, records_of(filled, study)).to_pylist()
    assert [row["seed"] for row in other if not row["reused"]] == [1]


def test_a_round_has_a_row_if_and_only_if_it_is_done(filled, study):
    records = records_of(filled, study)
    gone = study[0].rounds[0].key
    records.pop(gone)
    keys = tables.build_rounds("s", study, records)["key"].to_pylist()
    assert len(keys) == 15
    assert gone not in keys
    empty = tables.build_rounds("s", study, {})
    assert (empty.num_rows, empty.schema) == (0, ROUNDS)


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.randoms(use_true_random=False))
def test_the_order_in_which_rounds_come_changes_no_byte(filled, study, random):
    def every(lineages, records) -> list[bytes]:
        built = [
            tables.build_rounds("s", lineages, records),
            tables.build_curves("s", lineages, tables.read_curves(filled, records)[0]),
            tables.build_layers("s", lineages, tables.read_layers(filled, records)[0]),
            tables.build_lineages("s", lineages),
        ]
        return [tables.encode(table) for table in built]

    records = records_of(filled, study)
    shuffled = random.sample(study, len(study))
    keys = random.sample(sorted(records), len(records))
    assert every(shuffled, {key: records[key] for key in keys}) == every(study, records)


def test_chunks_change_no_byte():
    # Long enough for several pages: where they end would follow the chunks.
    table = pa.table({"text": [str(n) * (n % 40) for n in range(30_000)]})
    pieces = pa.concat_tables([table.slice(0, 333), table.slice(333, 7), table.slice(340)])
    assert pieces["text"].num_chunks == 3
    assert tables.encode(pieces) == tables.encode(table)


def test_bytes_do_not_depend_on_the_process(filled, study, tmp_path):
    """Nothing of a hash seed or a thread's turn is in the file."""
    path = tmp_path / "t.parquet"
    table = tables.build_rounds("s", study, records_of(filled, study))
    path.write_bytes(tables.encode(table))
    code = (
        "import sys, hashlib, pyarrow.parquet as pq; from raylottery.store import tables;"
        "print(hashlib.sha256(tables.encode(pq.read_table(sys.argv[1]))).hexdigest())"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", code, path],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(sums) == 1


@pytest.fixture
def written(filled, study) -> Path:
    path = layout.table("s", "rounds")
    table = tables.build_rounds("s", study, records_of(filled, study))
    assert tables.write_table(filled.files, path, table)
    assert not tables.write_table(filled.files, path, table)
    return Path(filled.files.where(path))


def test_pandas_opens_the_rounds_with_the_right_types(written):
    frame = pd.read_parquet(written)
    assert list(frame.columns) == [name for name, _ in COLUMNS]
    assert len(frame) == 16
    kinds = {S: "str", N: "int64", F: "float64", B: "bool", T: "datetime64[us, UTC]"}
    found = frame.dtypes.astype(str).to_dict()
    for name, kind in COLUMNS:
        if name not in ("env_steps", "stop_step", "min_loss_step"):
            assert found[name] == kinds[kind], name
    assert frame["score"].max() == 0.6
    assert frame["env_steps"].isna().all()


def test_polars_opens_the_rounds_with_the_right_types(written):
    frame = pl.read_parquet(written)
    kinds = {S: pl.String, N: pl.Int64, F: pl.Float64, B: pl.Boolean}
    kinds[T] = pl.Datetime("us", "UTC")
    assert frame.schema == pl.Schema({name: kinds[kind] for name, kind in COLUMNS})
    assert frame.filter(~pl.col("reused")).height == 13
    assert frame["started_at"][0] == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_duckdb_opens_the_rounds_with_the_right_types(written):
    quoted = str(written).replace("'", "''")
    kinds = {S: "VARCHAR", N: "BIGINT", F: "DOUBLE", B: "BOOLEAN", T: "TIMESTAMP WITH TIME ZONE"}
    with duckdb.connect() as base:
        found = base.sql(f"describe select * from '{quoted}'").fetchall()
        assert [(row[0], row[1]) for row in found] == [(n, kinds[kind]) for n, kind in COLUMNS]
        [(count,)] = base.sql(
            f"select count(*) from '{quoted}' where parent is null and seed = 1"
        ).fetchall()
    assert count == 2


def test_an_equal_table_leaves_the_file_alone(written, filled, study):
    before = os.stat(written)
    table = tables.build_rounds("s", study, records_of(filled, study))
    assert not tables.write_table(filled.files, layout.table("s", "rounds"), table)
    after = os.stat(written)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_curves_and_layers_carry_the_ids_of_every_row_of_rounds(filled, study):
    records = records_of(filled, study)
    rounds = tables.build_rounds("s", study, records)
    names = ["sweep", "lineage", "control", "lineage_mode", "draw", "round"]
    ids = rounds.select(names).to_pylist()
    layers = tables.build_layers("s", study, tables.read_layers(filled, records)[0])
    assert layers.schema == LAYERS
    assert layers.select(names).to_pylist() == ids
    assert set(layers["flops_kept"].to_pylist()) == {80}
    curves = tables.build_curves("s", study, tables.read_curves(filled, records)[0])
    assert curves.schema == CURVES
    assert curves.select(names).to_pylist() == [one for one in ids for _ in range(2)]
    assert curves["value"].to_pylist() == [0.1, 0.9] * 16
    assert curves["step"].to_pylist() == [0, 1] * 16
    assert curves["env_step"].null_count == 32


def test_gathering_nothing_gives_empty_tables(study):
    for build, schema in ((tables.build_curves, CURVES), (tables.build_layers, LAYERS)):
        table = build("s", study, {})
        assert (table.num_rows, table.schema) == (0, schema)
        assert build("s", [], {}).schema == schema


def test_a_damaged_curve_is_not_gathered(filled, study):
    records = records_of(filled, study)
    # A pruned round: a dense one, which two arms share, would be missing from both.
    record = records[next(round.key for round in study[0].rounds if round.index)]
    path = layout.round_file(record.key, record.files["curve.parquet"].path)
    whole = filled.files.read(path)
    filled.files.write(path, whole[:-1])
    curves, [lost] = tables.read_curves(filled, records)
    assert lost.key == record.key
    assert "curve.parquet is damaged" in str(lost)
    assert curves.keys() == records.keys() - {record.key}
    assert tables.build_curves("s", study, curves).num_rows == 30
    filled.files.write(path, whole)


def test_a_table_that_is_damaged_is_refused_and_replaced(local, study, caplog):
    path = layout.table("s", "lineages")
    table = tables.build_lineages("s", study)
    tables.write_table(local, path, table)
    whole = local.read(path)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    other = tables.encode(tables.build_rounds("s", [], {}))
    for broken in (whole[:-9], b"", b"PAR1", b"no table", flipped, other):
        local.write(path, broken)
        with pytest.raises(Damaged, match=r"lineages.parquet is damaged: it .*doctor --repair"):
            tables.read_table(local, path)
        assert tables.write_table(local, path, table)
        assert tables.read_table(local, path).equals(table)
    assert "lineages.parquet was damaged and is written anew" in caplog.text


def test_a_table_of_a_newer_raylottery_is_neither_read_nor_replaced(local, study):
    path = layout.table("s", "lineages")
    table = tables.build_lineages("s", study)
    newer = {**table.schema.metadata, b"raylottery.schema": b"2"}
    written = tables.encode(table.replace_schema_metadata(newer))
    local.write(path, written)
    with pytest.raises(NewerStore, match=r"newer raylottery \(schema 2, this one reads 1\): pip"):
        tables.read_table(local, path)
    with pytest.raises(NewerStore):
        tables.write_table(local, path, table)
    assert local.read(path) == written


def test_failures_of_this_sweep_only(filled, study):
    lineage = study[0]
    ticket = next(round for round in lineage.rounds if round.control == "ticket" and round.index)
    note = {
        "lineage": lineage.id,
        "control": "ticket",
        "round": 1,
        "error": "ValueError",
        "first_line": "bad",
        "log": "sweeps/s/logs/x.log",
        "at": "2026-01-02T05:04:05+02:00",
    }
    filled.fail(ticket.key, note | {"sweep": "s"})
    filled.fail(ticket.key, note | {"sweep": "other"})
    filled.fail(ticket.key, note | {"sweep": "s", "at": "2026-01-02T03:04:06+00:00"})
    table = tables.build_failures(filled, "s", study)
    assert table.schema == FAILURES
    assert table["attempt"].to_pylist() == [1, 3]
    assert table["at"].to_pylist() == [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
    ]
    assert tables.build_failures(filled, "s", []).num_rows == 0


def test_lineages_have_one_row_each(study):
    table = tables.build_lineages("s", study)
    assert table.schema == LINEAGES
    rows = table.to_pylist()
    assert [(row["arm_label"], row["seed"]) for row in rows] == [
        *[("scope=global", 0), ("scope=global", 1), ("scope=layerwise", 0), ("scope=layerwise", 1)]
    ]
    assert json.loads(rows[0]["values"]) == {"prune.scope": "global"}
    assert Sweep.model_validate_json(rows[0]["spec"]) == study[3].arm.study


def test_files_say_their_table_and_its_version(written):
    metadata = pq.read_schema(written).metadata
    assert metadata[b"raylottery.table"] == b"rounds"
    assert metadata[b"raylottery.schema"] == b"1"


ROW = {"step": 1, "env_step": None, "split": "valid", "metric": "accuracy", "value": 0.5}


def test_rows_become_a_file_only_if_they_fit_its_columns():
    back = pq.read_table(io.BytesIO(tables.to_bytes([ROW], CURVE)))
    assert back.to_pylist() == [ROW]
    with pytest.raises(ValueError, match="other columns than its table: split"):
        tables.to_bytes([{name: ROW[name] for name in ROW if name != "split"}], CURVE)
    with pytest.raises(ValueError, match="other columns than its table: extra"):
        tables.to_bytes([ROW | {"extra": 1}], CURVE)
    with pytest.raises(pa.ArrowInvalid, match="null"):
        tables.to_bytes([ROW | {"value": None}], CURVE)
    with pytest.raises(pa.ArrowInvalid, match="truncated"):
        tables.to_bytes([ROW | {"step": 1.5}], CURVE)


def test_importing_the_store_loads_no_heavy_library():
    code = (
        "import sys, raylottery.store;"
        "print(sorted({'torch', 'ray', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_local_store_is_written_without_pyarrow(tmp_path):
    """Workers that only commit need not load it for the files' sake."""
    code = (
        "import sys; from raylottery.store import Store;"
        "store = Store.open(sys.argv[1]); store.files.write('x', b'1'); store.done([]);"
        "print('pyarrow' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False\n"
    assert LocalFiles(tmp_path / "s").read("x") == b"1"
