"""The quickstart, end to end: its tables, its sharing and its science."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import duckdb
import pandas as pd
import polars as pl
import pytest

from tests.conftest import ROOT
from tests.ray.conftest import scratch_folders


pytestmark = pytest.mark.timeout(900)

COLUMNS = {
    **dict.fromkeys(["sweep", "arm", "lineage", "key", "parent", "arm_label"], "string"),
    **dict.fromkeys(["seed", "round", "draw"], "int64"),
    **dict.fromkeys(["control", "lineage_mode", "mask_source", "weight_source"], "string"),
    **dict.fromkeys(["density", "score", "score_at_stop", "score_best", "score_late"], "double"),
    **dict.fromkeys(["score_area", "train_score", "loss", "supermask_score"], "double"),
    **dict.fromkeys(["prunable", "kept", "total_params", "revived", "steps"], "int64"),
    **dict.fromkeys(["env_steps", "stop_step", "min_loss_step", "attempt"], "int64"),
    **dict.fromkeys(["metric", "stopped_by", "trainer", "task", "model", "engine"], "string"),
    **dict.fromkeys(["scope", "score_fn", "rewind_weights", "rewind_clock"], "string"),
    **dict.fromkeys(["fraction", "seconds"], "double"),
    "reused": "bool",
    **dict.fromkeys(["started_at", "finished_at"], "timestamp[us, tz=UTC]"),
    **dict.fromkeys(["host", "device", "version"], "string"),
}


@pytest.fixture(scope="module")
def table(quickstart) -> pd.DataFrame:
    return pd.read_parquet(quickstart[0] / "sweeps/quickstart/rounds.parquet")


def test_rounds_open_in_pandas_polars_and_duckdb_with_every_column_and_type(quickstart, table):
    import pyarrow.parquet as pq

    path = quickstart[0] / "sweeps/quickstart/rounds.parquet"
    assert {field.name: str(field.type) for field in pq.read_schema(path)} == COLUMNS
    assert set(table.columns) == set(COLUMNS)
    polars = pl.read_parquet(path)
    assert polars["density"].dtype == pl.Float64
    assert polars["finished_at"].dtype == pl.Datetime("us", "UTC")
    mean = "select round, avg(score) as score from read_parquet(?) group by round order by round"
    by_duckdb = [row[1] for row in duckdb.execute(mean, [str(path)]).fetchall()]
    by_polars = polars.group_by("round").agg(pl.col("score").mean()).sort("round")["score"]
    by_pandas = table.groupby("round")["score"].mean()
    assert by_duckdb == pytest.approx(list(by_pandas))
    assert list(by_polars) == pytest.approx(list(by_pandas))


def test_one_row_a_lineage_control_and_round(table):
    assert len(table) == 12 * (1 + 6 * 2)
    assert not table.duplicated(["lineage", "control", "lineage_mode", "draw", "round"]).any()
    assert set(table["control"]) == {"ticket", "random-ticket"}
    assert (table["revived"] == 0).all()


def test_density_falls_strictly_exact_to_the_entry_and_below_a_tenth(table):
    tickets = table[table["control"] == "ticket"].sort_values("round")
    for _, lineage in tickets.groupby("lineage"):
        kept = list(lineage["kept"])
        assert kept[0] == 43_000
        if (lineage["scope"] == "global").all():
            for before, after in pairwise(kept):
                assert after == before - round(0.35 * before)
        assert all(after < before for before, after in pairwise(kept))
        assert lineage["density"].iloc[-1] < 0.1
        assert (lineage["density"] == lineage["kept"] / 43_000).all()


def test_the_dense_round_is_trained_once_a_seed(table):
    dense = table[table["round"] == 0]
    assert len(dense) == 12
    assert dense["key"].nunique() == 3
    assert (~dense["reused"]).sum() == 3
    assert not table[table["round"] > 0]["reused"].any()
    assert (dense.groupby("seed")["score"].nunique() == 1).all()


def test_winning_tickets_beat_random_tickets_below_a_fifth_of_the_weights(raylottery, quickstart):
    store, _ = quickstart
    for density in (0.2, 0.15, 0.1):
        done = raylottery(
            "compare", "quickstart", "--by", "control", "--at-density", density,
            "--json", "--store", store,
        )  # fmt: skip
        [effect] = json.loads(done.stdout)["rows"]
        assert effect["n"] == 3
        assert effect["low"] > 0, effect["sentence"]
        assert effect["effect"] > 0.05


def test_compare_answers_scope_and_rewind_in_a_sentence(raylottery, quickstart):
    store, _ = quickstart
    for field in ("prune.scope", "rewind.weights"):
        done = raylottery("compare", "quickstart", "--by", field, "--store", store)
        assert done.returncode == 0
        assert re.search(r"At 10 % density .*95 % interval .* 3 paired seeds", done.stdout)


def test_run_says_what_it_cost_and_stays_below_its_overhead(quickstart):
    said = quickstart[1].stdout
    assert "trained 147 rounds" in said
    assert re.search(
        r"until the first worker was up, and each worker's first import of torch", said
    )
    [overhead] = re.findall(r"after that ([0-9.]+) s a round of worker time", said)
    assert float(overhead) < 3, "a tenth of that on an idle machine"


def test_running_again_starts_no_trial_and_changes_no_byte(raylottery, quickstart):
    store, _ = quickstart
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    again = raylottery("run", ROOT / "sweeps/quickstart.yaml", "--store", store, "--json")
    assert json.loads(again.stdout)["rounds_trained"] == 0
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_run_leaves_nothing_in_the_temporary_folder(quickstart, scratch_before):
    assert scratch_folders() == scratch_before
