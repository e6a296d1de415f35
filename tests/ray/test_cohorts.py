"""Cohorts of the compiled engine on a real Ray: the same tables as alone, whatever is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import FREE


AGENTS = """
name: cohort
trainer:
  {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [16], length: 20000ts,
   learning_starts: 200}
prune: {fraction: 0.3, rounds: 2}
rewind: {weights: 100it}
seeds: [0, 1, 2]
axes:
  prune.scope: [global, layerwise]
controls: [random-ticket]
resources: {cpus: 2}
"""
CLASSIFIERS = """
name: cohort
trainer:
  {kind: classifier, engine: compiled, dataset: mnist1d, model: mlp-12, length: 2ep,
   batch_size: 100, optimizer: sgd, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0, 1]
axes:
  trainer.lr: [0.01, 1.0e+20]
cohort: 4
resources: {cpus: 2}
"""

pytestmark = pytest.mark.usefixtures("local_ray")


def trained(
    store: Path, *changes: str, text: str = AGENTS, **options
) -> tuple[Result, list[str], pa.Table]:
    """How a sweep's run ended, what it said, and its table without what may differ."""
    said: list[str] = []
    sweep = parse_sweep(text, overrides=changes)
    result = run(sweep, Store.open(store), Diary(say=said.append), **options)
    table = pq.read_table(store / "sweeps/cohort/rounds.parquet")
    return result, said, table.drop_columns(list(FREE))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> pa.Table:
    """The table of lineages that were trained one after the other, in this process."""
    store = tmp_path_factory.mktemp("alone")
    changes = ("cohort=1", "resources.cpus=1")
    result, _, table = trained(store, *changes, inline=True)
    assert result.exit_code == 0
    return table


@pytest.mark.parametrize(
    ("changes", "most", "threads"),
    [((), 2, 2), (("cohort=4", "resources.cpus=1"), 1, 1), (("cohort=3",), 1, 2)],
    ids=["even shares", "four on one thread", "three on two threads"],
)
def test_the_table_is_the_same_in_any_cohort(tmp_path, alone, changes, most, threads):
    result, said, table = trained(tmp_path, *changes, max_concurrent=most)
    assert result.exit_code == 0, said
    assert table.equals(alone)
    assert f"{most * threads} at a time" in said[0]
    used = {thread for _, thread in result.ledger.spans}
    assert used == set(range(threads))
    assert 0 <= result.ledger.overhead_s < 60


def test_a_worker_that_is_killed_costs_what_it_was_training(tmp_path, alone, killing):
    """Of its three lineages two are under way; they are tried again, each alone."""
    line = lineages(parse_sweep(AGENTS, overrides=("axes={}",)))[1]
    killer = killing(tmp_path, line.rounds[1].key)
    result, said, table = trained(tmp_path, "cohort=3", max_concurrent=1)
    killer.join()
    assert result.exit_code == 0, said
    assert table.equals(alone)
    broke = [line for line in said if line.startswith("broke off:")]
    assert 1 <= len(broke) <= 2
    assert all("its worker process has died" in line for line in broke)
    records = Store.existing(tmp_path).records(result.plan.rounds)
    assert 1 <= sum(record.attempt > 1 for record in records.values()) <= 2
    assert not list(tmp_path.rglob("lease.json"))


def test_one_that_diverges_ends_alone(tmp_path):
    result, said, _ = trained(tmp_path, text=CLASSIFIERS, max_concurrent=1)
    assert result.exit_code == 1
    assert len(result.failures) == 2, said
    states = {line.id: result.plan.state(line) for line in result.plan.lineages}
    assert sorted(states.values()) == ["done", "done", "failed", "failed"]
    assert all(states[id] == "failed" for id in result.failures)
    notes = [note for notes in result.plan.failures.values() for note in notes]
    assert {(note["error"], note["attempt"]) for note in notes} == {("TrainingError", 1)}
    assert len(result.ledger.import_s) == 1, "one worker trained all four"


def test_an_interrupt_lets_all_threads_finish_their_rounds(tmp_path):
    store, said = Store.open(tmp_path), []

    class Impatient(Diary):
        def trained(self, lineage, key) -> None:
            if not self.tally.trained:
                os.kill(os.getpid(), signal.SIGINT)
            super().trained(lineage, key)

    sweep = parse_sweep(AGENTS)
    result = run(sweep, store, Impatient(say=said.append), max_concurrent=1)
    assert result.exit_code == 130
    assert result.plan.todo
    assert not list(tmp_path.rglob("lease.json")), "the running rounds were finished"
    assert not result.failures
    again = run(sweep, store, Diary(say=said.append), max_concurrent=1)
    assert again.exit_code == 0
    assert len(again.ledger.trained) == len(result.plan.todo)


def test_rllib_trains_one_lineage_at_a_time():
    from raylottery.trainers.dqn.rllib import RLlibDQN

    study = parse_sweep(AGENTS, overrides=("trainer.engine=rllib",))
    assert not RLlibDQN.threads
    assert not study.trainer.side_by_side
