"""DQN sweeps through Ray Tune: tables, pairing, kills and shares of a GPU."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from raylottery.analysis import compare, load
from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.tickets import harvest
from tests.e2e.conftest import FREE


pytestmark = pytest.mark.usefixtures("local_ray")

SWEEP = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [16], length: 1000ts, learning_starts: 200,
  updates: 4}
prune: {fraction: 0.3, rounds: 2}
seeds: [0, 1, 2, 3]
axes:
  prune.scope: [global, layerwise]
  rewind.weights: [init, 10%]
resources: {cpus: 1, gpus: 0.25}
"""
PRUNABLE = {"body.0.weight": 4 * 16, "head.weight": 16 * 2}


class Crowd(Diary):
    """Remembers how many lineages were under way at once."""

    def __init__(self):
        self.heard: list[str] = []
        super().__init__(say=self.heard.append)
        self.most = 0

    def started(self, lineage) -> None:
        super().started(lineage)
        self.most = max(self.most, len(self.tally.running))


def on_ray(store: Path, *changes: str, **options) -> tuple[Result, Crowd]:
    crowd = Crowd()
    sweep = parse_sweep(SWEEP, overrides=changes)
    return run(sweep, Store.open(str(store)), crowd, **options), crowd


def fixed(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in FREE} for row in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, local_ray) -> tuple[Path, Result, Crowd]:
    """The whole sweep, four lineages at a time on one logical GPU."""
    store = tmp_path_factory.mktemp("agents")
    return store, *on_ray(store)


def test_four_lineages_share_one_gpu_and_each_seed_trains_one_dense_network(trained):
    _, result, crowd = trained
    assert result.exit_code == 0
    assert crowd.most == 4
    assert "4 at a time" in crowd.heard[0]
    assert len(result.ledger.trained) == 4 + 4 * 4 * 2


def test_the_table_is_right_to_the_entry(trained, rows):
    store, result, _ = trained
    table = rows(store, "agents")
    assert len(table) == 4 * 4 * 3
    for row in table:
        dense = sum(PRUNABLE.values())
        assert row["prunable"] == dense
        assert row["kept"] == kept(row["scope"], row["round"])
        assert row["density"] == row["kept"] / dense
        assert row["total_params"] == dense + 16 + 2
        assert row["revived"] == 0
        assert (row["metric"], row["trainer"], row["task"]) == ("return", "dqn", "CartPole-v1")
        assert (row["engine"], row["model"]) == ("rllib", "mlp")
        late = row["round"] > 0 and row["rewind_weights"] == "10%"
        assert row["steps"] == 400 - (40 if late else 0), "4 updates for each 8 steps after 200"
        assert row["env_steps"] == 200 + math.ceil(row["steps"] / 4) * 8
        assert 1 <= row["score"] <= 500
        assert row["score_best"] >= row["score_area"]
        assert math.isfinite(row["train_score"])
        assert (row["stopped_by"], row["stop_step"]) == ("length", None)
    dense_rows = [row for row in table if row["round"] == 0]
    assert len({row["key"] for row in dense_rows}) == 4
    assert [row["reused"] for row in table].count(False) == len(result.ledger.trained)


def kept(scope: str, round: int) -> int:
    """What is left after pruning 30 % of the survivors, by hand; half of it in the head."""
    left = {"global": [96, 67, 47], "layerwise": [64 + 32, 45 + 27, 31 + 23]}
    return left[scope][round]


def test_curves_tell_of_evaluations_and_training_apart(trained, rows):
    store, _, _ = trained
    curves = [r for r in rows(store, "agents", "curves") if r["round"] == 0]
    kinds = {(row["split"], row["metric"]) for row in curves}
    assert kinds == {("eval", "return"), ("train", "return"), ("train", "loss")}
    evaluations = [r for r in curves if r["split"] == "eval"]
    assert {r["step"] for r in evaluations} == set(range(20, 401, 20))
    assert all(r["env_step"] == 200 + math.ceil(r["step"] / 4) * 8 for r in evaluations)


def test_survivors_are_rewound_and_masks_are_nested(trained):
    path, result, _ = trained
    store = Store.existing(str(path))
    for lineage in result.plan.lineages:
        masks = [harvest(r.key, store)[1] for r in lineage.rounds]
        assert all(after.nested_in(before) for before, after in pairwise(masks))


def test_the_users_question_is_answered_from_the_parquet_alone(trained):
    path, _, _ = trained
    for field in ("prune.scope", "rewind.weights"):
        answer = compare(load("agents", store=path), by=field)
        assert answer.sentences
        assert answer.metric == "score"


def test_another_run_in_another_place_gives_the_same_tables(trained, tmp_path, rows):
    """Inline, without Tune; two of the arms, which stand for all."""
    store, _, _ = trained
    changes = (
        "axes={prune.scope: [global], rewind.weights: [init, 10%]}",
        "seeds=[0, 1]",
        "resources.gpus=0",
    )
    result, _ = on_ray(tmp_path, *changes, inline=True)
    assert result.exit_code == 0
    assert_same_rows(rows(tmp_path, "agents"), rows(store, "agents"))
    ours, theirs = Store.existing(str(tmp_path)), Store.existing(str(store))
    for key in result.plan.rounds:
        a, b = harvest(key, ours)[0], harvest(key, theirs)[0]
        assert all(torch.equal(a[name], b[name]) for name in a), "weights, bit for bit"


def test_an_agent_killed_in_mid_round_goes_on_to_the_same_table(trained, tmp_path, rows, killing):
    store, _, _ = trained
    changes = ("axes={prune.scope: [global], rewind.weights: [10%]}", "seeds=[0]")
    [lineage] = lineages(parse_sweep(SWEEP, overrides=changes))
    killer = killing(tmp_path, lineage.rounds[1].key, into=0.2)
    result, _ = on_ray(tmp_path, *changes)
    killer.join()
    assert result.exit_code == 0
    table = rows(tmp_path, "agents")
    assert {row["round"]: row["attempt"] for row in table} == {0: 1, 1: 2, 2: 1}
    assert_same_rows(table, rows(store, "agents"))


def assert_same_rows(some: list[dict], all_rows: list[dict]) -> None:
    """Each row is the other sweep's row of that lineage and round; labels name the axes it had."""
    known = {(row["lineage"], row["round"]): row for row in fixed(all_rows)}
    for row in fixed(some):
        assert row | {"arm_label": ""} == known[row["lineage"], row["round"]] | {"arm_label": ""}
