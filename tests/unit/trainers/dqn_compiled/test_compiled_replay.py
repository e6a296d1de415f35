"""Transitions are put together as the other engine does, and kept as in its buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn.compiled import loops, tables
from raylottery.trainers.dqn.compiled.agent import played
from raylottery.trainers.dqn.replay import Assembler, Replay, stack
from tests.unit.kernel.samples import called
from tests.unit.trainers.dqn_compiled.agents import LADDER, start, trainer_of


WIDTH = 3

draw = called(loops.draw)


@given(
    seed=st.integers(0, 2**32 - 1),
    lanes=st.integers(1, 4),
    n_step=st.integers(1, 6),
    buffer=st.integers(1, 60),
    steps=st.integers(1, 60),
    ends=st.sampled_from([0.02, 0.3, 0.9]),
)
@settings(deadline=None, max_examples=60)
def test_any_stream_gives_the_buffer_that_the_other_engine_has(
    seed: int, lanes: int, n_step: int, buffer: int, steps: int, ends: float
) -> None:
    """Rewards of n steps, cut off and terminated episodes, and a buffer that is full."""
    chance = np.random.default_rng(seed)
    spec = DQNTrainer.model_validate({"kind": "dqn", "env": "x", "length": "10it"})
    theirs = Replay(spec.model_copy(update={"buffer": buffer}), 0)
    assembler = Assembler(lanes, n_step, 0.9)
    expected = []
    running = np.zeros(lanes)

    play = played(lanes, n_step, WIDTH)
    replay = np.zeros((buffer, 2 * WIDTH + tables.NUMBERS), np.float32)
    counters = np.zeros(tables.COUNTERS, np.int64)
    returns = np.zeros(lanes * steps)

    for _ in range(steps):
        seen, reached = chance.normal(size=(2, lanes, WIDTH)).astype(np.float32)
        actions = chance.integers(5, size=lanes)
        rewards = chance.normal(size=lanes)
        terminated, truncated = chance.random((2, lanes)) < ends / 2
        play.frames[:, tables.SEEN], play.frames[:, tables.REACHED] = seen, reached
        play.marks[:, tables.ACTION] = actions
        play.marks[:, tables.TERMINATED] = terminated
        play.marks[:, tables.ENDED_HERE] = terminated | truncated
        play.sums[:, tables.REWARD] = rewards
        loops.record(play, 0.9, replay, counters, returns)

        done = []
        running += rewards
        for lane in range(lanes):
            done += assembler.add(
                lane, seen[lane], actions[lane], rewards[lane], reached[lane],
                terminated[lane], truncated[lane],
            )  # fmt: skip
            if terminated[lane] or truncated[lane]:
                expected.append(running[lane])
                running[lane] = 0
        theirs.add(stack(done, (WIDTH,), "float32"))

    assert counters[tables.STEPS] == steps * lanes
    assert returns[: counters[tables.ENDED]].tolist() == expected
    size = counters[tables.SIZE]
    assert (size, counters[tables.NEXT]) == (theirs.size, theirs.next)
    if size:
        arrays = theirs.arrays
        whole = np.concatenate(
            [arrays["obs"], arrays["next_obs"]]
            + [arrays[n][:, None] for n in ("actions", "rewards", "terminateds", "n_step")],
            axis=1,
        )
        np.testing.assert_array_equal(replay[:size, :-1], whole[:size])
        discounts = (1 - arrays["terminateds"]) * 0.9 ** arrays["n_step"].astype(np.float64)
        np.testing.assert_array_equal(replay[:size, -1], discounts[:size].astype(np.float32))


@pytest.mark.parametrize("n_step", [1, 3])
def test_transitions_are_within_episodes_and_bootstrap_where_they_are_cut_off(n_step: int) -> None:
    """On a ladder of 5 rungs, each worth its number, whose episodes tell who they are."""
    trainer = trainer_of(LADDER, f"trainer.n_step={n_step}", "trainer.gamma=0.5")
    trainer.begin(start(trainer))
    agent = trainer.agent
    agent.advance(8)
    held = {name: part.numpy() for name, part in agent.contents().items()}
    ends: dict[float, set[bool]] = {}
    for obs, _, reward, after, terminated, n in zip(*held.values(), strict=True):
        episode, rung = float(obs[0]), int(obs[1])
        assert after[0] == obs[0], "no transition leads from one episode into the next"
        assert n == min(n_step, 5 - rung)
        assert after[1] == rung + n
        assert reward == sum(0.5**i * (rung + 1 + i) for i in range(int(n)))
        if after[1] == 5:
            ends.setdefault(episode, set()).add(bool(terminated))
        else:
            assert not terminated
    assert {frozenset(found) for found in ends.values()} == {frozenset({True}), frozenset({False})}
    pending = 4 * (n_step - 1)
    assert 80 - pending <= len(held["actions"]) <= 80
    assert agent.env_steps == 64 + 16
    assert len(agent.returns) == 4 * (20 // 5)
    assert set(agent.returns) == {15.0}
    trainer.close()


def test_batches_are_drawn_from_all_that_is_there_and_from_nothing_else() -> None:
    trainer = trainer_of("trainer.batch_size=64")
    trainer.begin(start(trainer))
    agent = trainer.agent
    agent.replay[64:] = np.nan
    drawn = set()
    for _ in range(40):
        numbers = agent.learner.batch
        draw(
            *(agent.here.acts, agent.there.acts, agent.far.acts, 4, agent.here.outputs.shape[1]),
            *(agent.learner.actions, numbers, agent.replay, agent.counters),
        )
        here = agent.here.acts.reshape(-1, agent.here.outputs.shape[1])[:4, :64].T
        assert np.isfinite(here).all()
        drawn |= {row.tobytes() for row in here.copy()}
    assert drawn == {row.tobytes() for row in agent.replay[:64, :4].copy()}
