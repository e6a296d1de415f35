"""Compiled environments are gymnasium's to the bit, and lanes of them are the same experience."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from numba import njit

from raylottery.trainers.dqn.compiled import environments
from raylottery.trainers.dqn.compiled.chance import below, drawn, pcg64, share, uniform
from tests.unit.trainers.dqn_compiled.agents import (
    assert_same_outcome,
    start,
    trainer_of,
)


GAMES = list(environments.KINDS)


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 5])
@pytest.mark.parametrize("env", GAMES)
def test_20_000_random_steps_are_gymnasiums_to_the_bit(env: str, seed: int) -> None:
    """States, observations, rewards, ends and resets."""
    spec = trainer_of(f"trainer.env={env}").spec
    assert environments.agrees(spec, environments.KINDS[env], 20_000, 5_000, seed)


@pytest.mark.parametrize("env", GAMES)
def test_another_rounding_is_found_out_and_gymnasium_steps_instead(
    env: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By one unit in the last place of one state in some 50 steps."""

    kind = environments.KINDS[env]

    def step(states, lane, action, two):
        found = kind.step(states, lane, action, two)
        steps.append(found)
        if len(steps) == 50:
            states[lane, 1] = np.nextafter(states[lane, 1], np.inf)
        return found

    steps: list = []
    spec = trainer_of(f"trainer.env={env}").spec
    monkeypatch.setattr(environments, "_TRUE", {})
    monkeypatch.setitem(environments.KINDS, env, replace(kind, step=step))
    with caplog.at_level(logging.WARNING):
        assert environments.game(spec, [0]) is None
        assert environments.game(spec, [0]) is None
    [said] = caplog.messages
    assert env in said


@pytest.mark.parametrize(
    "changes",
    [
        ("trainer.env=CartPole-v1",),
        ("trainer.env=CartPole-v0", "trainer.n_step=3"),
        ("trainer.env=Acrobot-v1", "trainer.env_args={max_episode_steps: 30}"),
        ("trainer.env=MountainCar-v0", "trainer.env_args={max_episode_steps: 50}"),
    ],
    ids=lambda changes: changes[0].removeprefix("trainer.env="),
)
def test_whoever_steps_the_environments_the_outcome_is_the_same(
    changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, scores, the curve with its greedy returns, and the replay buffer."""
    changes = (*changes, "reset.replay=kept", "reset.optimizer=kept", "trainer.buffer=150")
    with closing(trainer_of(*changes)) as compiled, closing(trainer_of(*changes)) as stepped:
        ours = compiled.train(start(compiled, keep=(0,)))
        assert compiled.agent.lanes is None
        monkeypatch.setattr(environments, "trusted", lambda spec, kind: False)
        theirs = stepped.train(start(stepped, keep=(0,)))
        assert stepped.agent.lanes is not None
    assert_same_outcome(ours, theirs)
    assert ours.carried["replay.n_step"].numel() == 150


@pytest.mark.parametrize(
    ("arguments", "compiled"),
    [
        ("{}", True),
        ("{max_episode_steps: 7}", True),
        ("{max_episode_steps: -1}", False),  # as gymnasium says without end
        ("{sutton_barto_reward: true}", False),
    ],
)
def test_with_other_arguments_gymnasium_steps(arguments: str, compiled: bool) -> None:
    spec = trainer_of(f"trainer.env_args={arguments}").spec
    game = environments.game(spec, [3, 4])
    assert (game is not None) == compiled
    if game is not None:
        assert len(game.states) == len(game.streams) == 2


def test_an_environment_that_is_registered_anew_under_its_name_is_not_taken_for_the_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gymnasium

    other = gymnasium.registry["MountainCar-v0"]
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", other)
    monkeypatch.setattr(environments, "_TRUE", {})
    assert environments.game(trainer_of().spec, [0]) is None


# Chance


def test_pcg64_is_numpys() -> None:
    @njit
    def several(stream, whole, numbers):
        for i in range(len(whole)):
            whole[i] = pcg64(stream)
            numbers[i] = uniform(stream, -0.6, -0.4)

    for seed in (0, 123, 2**63 - 1):
        stream = np.array(environments.words(seed), np.uint64)
        whole, numbers = np.zeros(500, np.uint64), np.zeros(500)
        several(stream, whole, numbers)
        theirs = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        for ours, number in zip(whole.tolist(), numbers.tolist(), strict=True):
            assert ours == theirs.bit_generator.random_raw()
            assert number == theirs.uniform(-0.6, -0.4)


def test_counted_draws_are_even_and_tell_nothing_of_one_another() -> None:
    @njit
    def several(key, count):
        bits = np.zeros(count, np.uint64)
        for i in range(count):
            bits[i] = drawn(np.uint64(key), i)
        return bits

    @njit
    def shares(bits):
        return np.array([share(each) for each in bits])

    @njit
    def whole(bits, top):
        return np.array([below(each, top) for each in bits])

    keys = [several(key, 20_000) for key in (1, 2, 2**62)]
    for bits in keys:
        numbers = shares(bits)
        assert 0 <= numbers.min() < 1e-3 < 1 - 1e-3 < numbers.max() < 1
        assert abs(numbers.mean() - 0.5) < 0.01
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03
        counts = np.bincount(whole(bits, 7), minlength=7)
        assert len(counts) == 7
        assert np.abs(counts / 20_000 - 1 / 7).max() < 0.01
    assert len(np.unique(np.concatenate(keys))) == 60_000


def test_lanes_draw_apart() -> None:
    trainer = trainer_of()
    trainer.begin(start(trainer))
    game = trainer.agent.game
    assert len(np.unique(game.streams, axis=0)) == len(game.streams) == 4
    assert len(torch.unique(trainer.agent.contents()["obs"], dim=0)) == 64
