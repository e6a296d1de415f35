"""Tune trials: logical GPUs, concurrency, reuse of workers, failures and kills."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.machines import refuse_blind_machines
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.errors import UsageError
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from tests.e2e.conftest import TINY


pytestmark = pytest.mark.usefixtures("local_ray")


class Crowd(Diary):
    """Remembers how many lineages were under way at once."""

    def __init__(self):
        super().__init__(say=self.hear)
        self.most = 0
        self.heard: list[str] = []

    def hear(self, line: str) -> None:
        self.heard.append(line)

    def trained(self, lineage, key) -> None:
        super().trained(lineage, key)
        self.most = max(self.most, len(self.tally.running))


def on_ray(store, *changes: str, **options) -> tuple[Result, Crowd]:
    crowd = Crowd()
    return run(
        parse_sweep(TINY, overrides=changes), Store.open(str(store)), crowd, **options
    ), crowd


def test_half_a_gpu_each_runs_two_at_a_time_on_one_gpu(tmp_path):
    result, crowd = on_ray(tmp_path, "resources.gpus=0.5", "seeds=[0, 1, 2]")
    assert result.exit_code == 0
    assert not result.plan.todo
    assert crowd.most == 2
    assert "2 at a time" in crowd.heard[0]
    assert len(result.ledger.import_s) == 2, "two workers, reused from trial to trial"


def test_max_concurrent_bounds_what_is_under_way(tmp_path):
    result, crowd = on_ray(tmp_path, max_concurrent=1)
    assert not result.plan.todo
    assert crowd.most == 1
    assert len(result.ledger.import_s) == 1


def test_a_lineage_that_cannot_train_fails_alone_and_is_told(tmp_path):
    """A learning rate that diverges in one arm: no retry can mend it, the other arm finishes."""
    changes = ("trainer.optimizer=sgd", "axes={trainer.lr: [0.01, 1.0e+20]}", "controls=[]")
    result, _ = on_ray(tmp_path, *changes, max_concurrent=1)
    assert result.exit_code == 1
    assert len(result.failures) == 2, "one for each seed"
    assert all("lower trainer.lr" in line for line in result.failures.values())
    assert {result.plan.state(line) for line in result.plan.lineages} == {"done", "failed"}
    notes = [n for notes in result.plan.failures.values() for n in notes]
    assert {note["error"] for note in notes} == {"TrainingError"}
    assert {note["attempt"] for note in notes} == {1}
    for note in notes:
        log = (tmp_path / note["log"]).read_text()
        assert "TrainingError" in log
        assert "Traceback" in log


def test_a_worker_that_is_killed_is_started_again_and_loses_one_round(tmp_path, killing):
    """SIGKILL in the middle of a round: the round is trained again, and only that one."""
    changes = ("trainer.length=30ep", "seeds=[0]", "axes={}", "controls=[]")
    [lineage] = lineages(parse_sweep(TINY, overrides=changes))
    killer = killing(tmp_path, lineage.rounds[1].key)
    result, crowd = on_ray(tmp_path, *changes)
    killer.join()
    [broke] = [line for line in crowd.heard if line.startswith("broke off:")]
    assert "its worker process has died" in broke
    assert broke.endswith("; it is tried again in 1 s")
    assert result.exit_code == 0
    assert not result.plan.todo
    records = Store.existing(str(tmp_path)).records(result.plan.rounds)
    attempts = {records[key].spec["round"]: records[key].attempt for key in records}
    assert attempts == {0: 1, 1: 2, 2: 1}
    undisturbed, _ = on_ray(tmp_path / "again", *changes, inline=True)
    for key in undisturbed.plan.rounds:
        other = Store.existing(str(tmp_path / "again")).record(key)
        assert other is not None
        assert other.result == records[key].result


def test_a_round_that_is_killed_goes_on_from_where_it_was_put_aside(tmp_path, killing):
    changes = ("trainer.length=40ep", "seeds=[0]", "axes={}", "controls=[]", "checkpoint=2ep")
    [lineage] = lineages(parse_sweep(TINY, overrides=changes))
    killer = killing(tmp_path, lineage.rounds[1].key, sign=layout.aside)
    result, _ = on_ray(tmp_path, *changes)
    killer.join()
    assert result.exit_code == 0
    store = Store.existing(str(tmp_path))
    records = store.records(result.plan.rounds)
    attempts = {records[key].spec["round"]: records[key].attempt for key in records}
    assert attempts == {0: 1, 1: 2, 2: 1}
    log = (tmp_path / layout.log("tiny", lineage.id)).read_text()
    assert log.count("the round goes on from step") == 1
    undisturbed, _ = on_ray(tmp_path / "again", *changes, inline=True)
    other = Store.existing(str(tmp_path / "again"))
    for key in undisturbed.plan.rounds:
        expected = other.record(key)
        assert expected is not None
        assert expected.result == records[key].result
        for file in ("ticket.safetensors", "curve.parquet"):
            assert other.read_file(expected, file) == store.read_file(records[key], file)
        assert store.aside(key) is None


def test_a_store_that_a_machine_does_not_see_or_cannot_write_is_refused(tmp_path):
    store = Store.open(tmp_path)
    with pytest.raises(UsageError, match=r"the worker on .* does not see the driver's store"):
        refuse_blind_machines(store, "tiny")
    store.files.write(layout.sweep_file("tiny"), b"name: tiny")
    refuse_blind_machines(store, "tiny")
    elsewhere: Any = SimpleNamespace(uri="/proc/nowhere")
    with pytest.raises(UsageError, match=r"the worker on .* cannot write the store"):
        refuse_blind_machines(elsewhere, "tiny")
