"""What a run shows in the store, and what it hears there."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from raylottery.driver import live
from raylottery.driver.live import JOB, Letter, Live, Pulse
from raylottery.errors import UsageError
from raylottery.store import Store, layout


SWEEP = "study"
RUN = "0123456789ab"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Everything twenty times as fast."""
    monkeypatch.delenv(JOB, raising=False)
    for name in ("BEAT_S", "LOOK_S", "SILENCE_S"):
        monkeypatch.setattr(live, name, getattr(live, name) / 20)


@pytest.fixture
def pulse(store):
    """A run that lives, and what it was asked."""
    asked = []
    mine = Live.this_process(SWEEP, RUN, "this process")
    return Pulse(store.files, mine, lambda: 3, asked.append), asked


def left_behind(store, **changes) -> Live:
    """A run of another machine that was killed."""
    run = Live.this_process(SWEEP, "f" * 12, "a cluster")
    run = replace(run, holder=replace(run.holder, host="elsewhere"), **changes)
    store.files.write(layout.live(SWEEP, run.run), run.to_bytes())
    return run


def until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_counts_on_while_it_lives_and_leaves_nothing(store, pulse):
    beating, _ = pulse
    with beating:
        [first] = live.live_runs(store, SWEEP)
        assert (first.run, first.trained, first.seems_alive) == (RUN, 0, True)
        until(lambda: live.live_runs(store, SWEEP)[0].holder.counter >= 2)
        assert live.live_runs(store, SWEEP)[0].trained == 3
        assert live.still_running(store, SWEEP) != []
    assert live.live_runs(store, SWEEP) == []
    assert store.files.list(layout.sweep_folder(SWEEP)) in ([], ["runs"])


@pytest.mark.parametrize("how", ["round", "now"])
def test_a_request_reaches_the_run_that_it_names_and_goes_with_it(store, pulse, how):
    beating, asked = pulse
    with beating:
        done = live.cancel(store, SWEEP, how)
        assert ([run.run for run in done.asked], done.gone, done.recalled) == ([RUN], [], [])
        until(lambda: asked)
    assert set(asked) == {how}
    assert not store.files.exists(layout.cancel(SWEEP, RUN))


def test_a_request_that_makes_no_sense_is_passed_over(store, pulse):
    beating, asked = pulse
    with beating:
        store.files.write(layout.cancel(SWEEP, RUN), b'{"how": "perhaps"}')
        counted = live.live_runs(store, SWEEP)[0].holder.counter
        time.sleep(0.5)
        assert live.live_runs(store, SWEEP)[0].holder.counter >= counted
    assert asked == []


def test_a_run_that_stands_still_is_seen_to_be_gone_and_forgotten(store):
    run = left_behind(store)
    assert run.seems_alive, "by the clocks alone it might live"
    assert live.still_running(store, SWEEP) == []
    assert live.live_runs(store, SWEEP) == []


def test_cancelling_what_is_gone_says_so_and_clears_up(store):
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    run = left_behind(store, at=hour_ago)
    assert not run.seems_alive
    done = live.cancel(store, SWEEP, "round")
    assert ([one.run for one in done.gone], done.asked) == ([run.run], [])
    assert store.files.list(layout.runs(SWEEP)) == []
    assert not store.files.exists(layout.cancel(SWEEP, run.run))


def test_a_slow_clock_does_not_make_a_run_dead(store):
    """It says it was an hour ago; but it counts."""
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    run = left_behind(store, at=hour_ago)

    class Beats:
        def __getattr__(self, name):
            return getattr(store.files, name)

        def read(self, path):
            nonlocal run
            if path == layout.live(SWEEP, run.run):
                run = run.beat(0)
                store.files.write(path, run.to_bytes())
            return store.files.read(path)

    done = live.cancel(Store(Beats()), SWEEP, "round")  # ty: ignore
    assert ([one.run for one in done.asked], done.gone) == ([run.run], [])


def test_what_is_no_file_of_ours_is_no_run(store):
    store.files.write(f"{layout.runs(SWEEP)}/notes.txt", b"")
    store.files.write(layout.live(SWEEP, RUN), b"{}")
    assert live.live_runs(store, SWEEP) == []


def letter(**changes) -> Letter:
    return Letter(job="raylottery-study-1", sweep=SWEEP, address="http://h:1", at=live.now(),
                  **changes)  # fmt: skip


def test_a_job_finds_its_letter_and_takes_it_along(store, monkeypatch):
    monkeypatch.setenv(JOB, letter().job)
    live.post(store, letter())
    with live.as_a_job(store, SWEEP):
        assert [one.job for one in live.letters(store, SWEEP)] == [letter().job]
    assert live.letters(store, SWEEP) == []


def test_a_job_at_another_store_trains_nothing(store, monkeypatch):
    monkeypatch.setenv(JOB, letter().job)
    with pytest.raises(UsageError, match="another store"), live.as_a_job(store, SWEEP):
        raise AssertionError("it began")


def test_a_job_of_another_version_trains_nothing_and_the_store_says_why(store, monkeypatch):
    monkeypatch.setenv(JOB, letter().job)
    live.post(store, letter(version="0.0.0"))
    with pytest.raises(UsageError, match=r"0\.0\.0 submitted"), live.as_a_job(store, SWEEP):
        raise AssertionError("it began")
    [refused] = live.letters(store, SWEEP)
    assert "0.0.0 submitted" in (refused.refused or "")
    live.post(store, replace(letter(), job="raylottery-study-2"))
    assert [one.job for one in live.letters(store, SWEEP)] == ["raylottery-study-2"]


def test_a_job_is_cancelled_before_it_begins_and_while_it_does(store, monkeypatch, pulse):
    live.post(store, letter())
    done = live.cancel(store, SWEEP, "round")
    assert [one.job for one in done.recalled] == [letter().job]
    monkeypatch.setenv(JOB, letter().job)
    with pytest.raises(UsageError, match="cancelled"), live.as_a_job(store, SWEEP):
        raise AssertionError("it began")
    beating, asked = pulse
    beating.live = replace(beating.live, job=letter().job)
    with beating:
        until(lambda: asked)
    assert set(asked) == {"round"}


def test_the_file_says_who_and_where(store, pulse):
    with pulse[0]:
        told = json.loads(store.files.read(layout.live(SWEEP, RUN)))
    assert told["place"] == "this process"
    assert told["holder"]["pid"] > 0
