"""When a trial counts as hanging."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raylottery.driver import tune
from raylottery.driver.tune import Patience
from raylottery.spec import Duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def trial(name: str) -> Any:
    return SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=f"its {name}"))


@pytest.fixture
def killed(monkeypatch) -> list[str]:
    gone: list[str] = []
    monkeypatch.setattr(tune.ray, "kill", gone.append)
    return gone


def test_who_has_not_been_heard_of_for_so_long_is_ended_and_nobody_else(killed):
    clock = Clock()
    patience = Patience(Duration("30m"), clock)
    for name in ("silent", "talks", "done"):
        patience.hears(trial(name))
    clock.now = 1700
    patience.hears(trial("talks"))
    patience.forgets(trial("done"))
    patience.look()
    assert not killed
    clock.now = 1800
    patience.look()
    assert killed == ["its silent"]
    assert patience.ended == {"silent"}
    clock.now = 3500
    patience.look()
    assert killed == ["its silent", "its talks"], "one that does not die has as long again"
    clock.now = 3600
    patience.look()
    assert killed[2:] == ["its silent"]


def test_without_a_timeout_nobody_is(killed):
    clock = Clock()
    patience = Patience(None, clock)
    patience.hears(trial("silent"))
    clock.now = 1e9
    patience.look()
    assert not killed
