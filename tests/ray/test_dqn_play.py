"""What a run recorded is played again, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.play import play
from raylottery.driver.run import run
from raylottery.spec import parse_sweep
from raylottery.store import Store


pytestmark = pytest.mark.usefixtures("local_ray")

SWEEP = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [16], length: 1200ts, learning_starts: 200,
  updates: 4}
prune: {fraction: 0.3, rounds: 1}
eval: {every: 10%, episodes: 2, final: 7}
seeds: [0]
controls: [random-ticket]
"""
NORMALISED = ("trainer.normalise=true", "trainer.dueling=true")
AT_STOP = ("stop={rule: target, threshold: 5, evaluate: at-stop}",)
SEARCHED = ("stop={rule: target, threshold: 5}",)


@pytest.mark.parametrize(
    "changes", [(), NORMALISED, AT_STOP, SEARCHED], ids=["plain", "normalised", "at-stop", "stop"]
)
def test_every_round_plays_the_episodes_of_its_score_again(tmp_path: Path, rows, changes):
    store = Store.open(tmp_path)
    sweep = parse_sweep(SWEEP, overrides=changes)
    assert run(sweep, store, Diary(say=lambda line: None), inline=True).exit_code == 0
    table = rows(tmp_path, "agents")
    assert [(row["round"], row["control"]) for row in table] == [
        (0, "ticket"), (1, "ticket"), (1, "random-ticket")
    ]  # fmt: skip
    for row in table:
        place = ("agents", row["lineage"][:6], row["round"], row["control"])
        found = play(*place, store)
        assert found.mean == found.score == row["score"]
        assert play(*place, store, episodes=3).episodes == found.episodes[:3]
    if "stop" in str(changes):
        assert table[0]["stopped_by"] == "target"
        assert (table[0]["steps"] == 500) == (changes == SEARCHED)
