"""How the workers' time is counted."""

from __future__ import annotations

import pytest

from raylottery.driver.watch import Ledger


def signal(worker: str, thread: int, began: float, now: float, **more: object) -> dict:
    import_s = 2.0 if began < 20 else 0.0
    return {
        "event": "done", "worker": worker, "thread": thread, "began": began, "now": now,
        "import_s": import_s, **more,
    }  # fmt: skip


def round_of(seconds: float) -> dict:
    return {"event": "round", "key": "k", "seconds": seconds}


def test_each_thread_has_its_time_until_the_end_less_the_first_import():
    ledger = Ledger(began=5.0)
    ledger.read(signal("a", 0, 10, 20, **round_of(7)))
    ledger.read(signal("a", 1, 10, 30, **round_of(15)))
    ledger.read(signal("b", 0, 11, 42, **round_of(25)))
    ledger.read(signal("a", 2, 32, 40, **round_of(5)))
    assert ledger.startup_s == 5
    assert ledger.import_s == {"a": 2, "b": 2}
    assert ledger.worker_s == (42 - 12) + (42 - 12) + (42 - 13) + (42 - 32)
    assert ledger.overhead_s == pytest.approx((99 - 52) / 4)
    assert (ledger.rounds, ledger.trained) == (4, {"k"})


def test_where_nobody_came_there_was_no_time():
    ledger = Ledger()
    assert (ledger.startup_s, ledger.worker_s, ledger.overhead_s) == (0, 0, 0)
