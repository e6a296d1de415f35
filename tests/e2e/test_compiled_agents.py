"""Agents of the compiled engine, through whole sweeps in this process."""

from __future__ import annotations

import pytest

from raylottery.driver.play import play
from raylottery.errors import UsageError
from raylottery.store import Store


AGENTS = """
name: tiny
trainer: {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [24, 16], length: 1000ts,
          updates: 4, learning_starts: 200, batch_size: 32}
prune: {fraction: 0.4, rounds: 2}
rewind: {weights: 10%}
eval: {every: 10%, episodes: 2, final: 7}
seeds: [0, 1]
controls: [random-ticket]
"""
ROUNDS = [(0, "ticket"), (1, "ticket"), (1, "random-ticket"), (2, "ticket"), (2, "random-ticket")]


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("trainer.env=Acrobot-v1", "trainer.env_args={max_episode_steps: 60}"),
        ("trainer.env=tests.games:ladder", "trainer.dueling=true"),
        ("stop={rule: target, threshold: 5}", "trainer.n_step=1"),
        ("stop={rule: mask-distance, window: 2}", "trainer.target_every=20it", "trainer.tau=1.0"),
        ("reset={replay: kept, optimizer: kept, learning_starts: skipped, target_mask: dense}",),
    ],
    ids=["cartpole", "acrobot", "ladder", "target", "masks", "kept"],
)
def test_tables_are_complete_and_the_same_twice_and_agents_play_again(
    tmp_path, run_inline, table, fixed, changes
):
    for name in "ab":
        result = run_inline(tmp_path / name, *changes, text=AGENTS)
        assert result.exit_code == 0
    rows = table(tmp_path / "a")
    assert fixed(rows) == fixed(table(tmp_path / "b"))
    for other in ("curves", "layers"):
        assert table(tmp_path / "a", other) == table(tmp_path / "b", other)

    assert sorted((row["round"], row["control"]) for row in rows) == sorted(ROUNDS * 2)
    store = Store.open(tmp_path / "a")
    for row in rows:
        assert row["engine"] == "compiled"
        assert row["device"] == "cpu"
        assert row["revived"] == 0
        assert row["metric"] == "return"
        assert row["density"] == pytest.approx(0.6 ** row["round"], abs=0.01)
        assert (row["steps"], row["env_steps"]) in {(400, 1000), (360, 920), (360, 720)}
        found = play("tiny", row["lineage"][:6], row["round"], row["control"], store)
        assert found.mean == found.score == row["score"]
    curves = table(tmp_path / "a", "curves")
    for row in rows:
        mine = [c for c in curves if c["lineage"] == row["lineage"] and c["round"] == row["round"]]
        assert {(c["split"], c["metric"]) for c in mine} == {
            ("eval", "return"), ("train", "return"), ("train", "loss"),
        }  # fmt: skip


def test_a_round_that_diverges_ends_its_lineage_and_no_other(tmp_path, run_inline, table):
    result = run_inline(tmp_path, "axes={trainer.lr: [0.001, 1.0e+30]}", text=AGENTS)
    assert result.exit_code == 1
    assert len(table(tmp_path)) == 2 * len(ROUNDS)
    failures = table(tmp_path, "failures")
    assert {row["round"] for row in failures} == {0}
    assert all("training loss became" in row["first_line"] for row in failures)


def test_images_are_refused_before_anything_starts(tmp_path, run_inline):
    with pytest.raises(UsageError, match="the compiled engine sees no images"):
        run_inline(tmp_path, "trainer.env=tests.games:pictures", text=AGENTS)
    assert not list(tmp_path.iterdir())
