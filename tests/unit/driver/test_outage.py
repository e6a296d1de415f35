"""A store that does not answer for a while: what can wait for it does, and nothing is lost."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver import gather
from raylottery.driver.conductor import Conductor
from raylottery.driver.gather import Gatherer
from raylottery.driver.plan import make_plan
from raylottery.driver.trial import Journal
from raylottery.errors import StoreError
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import TINY


@pytest.fixture
def outage(monkeypatch):
    """Makes one of a store's ways to write refuse, until it is told to end."""

    def refuse(*args) -> None:
        raise StoreError("the store cannot be written")

    def begin(store: Store, *ways: str) -> None:
        for way in ways:
            monkeypatch.setattr(store.files, way, refuse)

    return SimpleNamespace(begin=begin, end=monkeypatch.undo)


def test_what_a_lineage_says_of_an_outage_ends_nobody_and_is_kept(tmp_path, outage):
    """The thread that renews its lease says it, and has to go on."""
    store = Store.open(tmp_path)
    task: Any = SimpleNamespace(sweep="tiny", lineage=SimpleNamespace(id="0" * 12))
    journal = Journal(store, task)
    try:
        outage.begin(store, "write")
        logging.getLogger("raylottery.store.lease").warning("could not be renewed")
        with pytest.raises(StoreError):
            journal.add("a round is done")
        outage.end()
        journal.add("another")
    finally:
        journal.close()
    [log] = tmp_path.glob("sweeps/tiny/logs/*.log")
    lines = [line[20:] for line in log.read_text().splitlines()]
    assert lines == ["could not be renewed", "a round is done", "another"]


def test_a_table_that_cannot_be_written_waits(tmp_path, outage, monkeypatch, caplog):
    store = Store.open(tmp_path)
    plan = make_plan(parse_sweep(TINY), store)
    gatherer = Gatherer(plan, store)
    gatherer.heard(next(iter(plan.rounds)))
    outage.begin(store, "write", "write_if_changed")
    with caplog.at_level(logging.WARNING, logger="raylottery"):
        gatherer.tick()
    assert "waits for the store" in caplog.text
    outage.end()
    monkeypatch.setattr(gather, "EVERY_S", 0.0)
    gatherer.tick()
    assert (tmp_path / "sweeps/tiny/rounds.parquet").exists()


def test_a_failure_that_cannot_be_noted_is_told_and_ends_nobody(tmp_path, outage):
    store = Store.open(tmp_path)
    plan = make_plan(parse_sweep(TINY), store)
    conductor = Conductor(plan, store, Diary(say=lambda line: None))
    lineage = conductor.queue.next()
    assert lineage is not None
    conductor.watcher.opened(plan, 1, "here")
    outage.begin(store, "create_exclusive")
    conductor.on_signal(lineage, {"event": "failed", "error": "its worker was lost"})
    outage.end()
    told = conductor.failures[lineage.id]
    assert told.startswith("its worker was lost (and the store took no note of it: ")


def test_what_became_of_a_lineage_is_asked_again_until_the_store_answers(tmp_path, outage, caplog):
    store = Store.open(tmp_path)
    plan = make_plan(parse_sweep(TINY), store)
    conductor = Conductor(plan, store, Diary(say=lambda line: None))
    first, second = conductor.queue.next(), conductor.queue.next()
    assert first is not None
    assert second is not None
    conductor.watcher.opened(plan, 1, "here")
    outage.begin(store, "read")
    with caplog.at_level(logging.WARNING, logger="raylottery"):
        conductor.on_signal(first, {"event": "broken", "error": "its worker was lost"})
        conductor.on_signal(second, {"event": "done"})
        conductor.on_tick()
    assert caplog.text.count("what became of a lineage waits for the store") == 1
    assert conductor.queue.next() is None
    assert not conductor.queue.drained
    outage.end()
    conductor.on_tick()
    assert not conductor.ends
    handed = [conductor.queue.next() for _ in range(2)]
    assert first not in handed, "it is tried again in a second"
    assert not conductor.failures


def test_a_store_that_never_answers_ends_the_run(tmp_path, outage, monkeypatch):
    store = Store.open(tmp_path)
    conductor = Conductor(make_plan(parse_sweep(TINY), store), store, Diary(say=lambda line: None))
    lineage = conductor.queue.next()
    assert lineage is not None
    outage.begin(store, "read")
    conductor.on_signal(lineage, {"event": "done"})
    monkeypatch.setattr("raylottery.driver.conductor.OUTAGE_S", 0.0)
    with pytest.raises(StoreError):
        conductor.on_tick()
