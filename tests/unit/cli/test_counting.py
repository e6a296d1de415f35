"""How far a count has come is said now and then, with the time that is left."""

from __future__ import annotations

import pytest

from raylottery.cli import progress


def test_a_line_now_and_then_and_none_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    said: list[str] = []
    tell = progress.Count(say=said.append, every_s=10.0)
    for done in range(1, 6):
        now += 6.0
        tell(done, 5)
    assert said == ["2 of 5, 18 s left", "4 of 5, 6 s left"]
