"""Environments for tests, named in a sweep as tests.games:ladder."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete


class Ladder(gym.Env):
    """Every step climbs a rung, whatever is done, and is worth the rung that it reaches.

    An observation tells the rung and a number that no other episode has, so that a transition
    shows where it comes from. Episodes end at the top: by turns they terminate and are cut off.
    """

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(3)

    def __init__(self, top: int, fails_at: int | None):
        self.top = top
        self.fails_at = fails_at
        self.climbed = self.episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.rung = 0
        self.episodes += 1
        self.number = self.np_random.random()
        return self.shown(), {}

    def step(self, action: int):
        self.climbed += 1
        if self.climbed == self.fails_at:
            raise ValueError("a rung broke")
        self.rung += 1
        there = self.rung == self.top
        terminates = self.episodes % 2 == 1
        return self.shown(), float(self.rung), there and terminates, there and not terminates, {}

    def shown(self) -> np.ndarray:
        return np.array([self.number, self.rung], np.float32)


def ladder(top: int = 5, fails_at: int | None = None) -> gym.Env:
    return Ladder(top, fails_at)


class Shown(gym.Env):
    """Bytes at random, in an array of some shape, for ten steps."""

    action_space = Discrete(2)

    def __init__(self, *shape: int):
        self.observation_space = Box(0, 255, shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def step(self, action: int):
        self.steps += 1
        return self.shown(), float(action), self.steps == 10, False, {}

    def shown(self) -> np.ndarray:
        assert self.observation_space.shape is not None
        return self.np_random.integers(256, size=self.observation_space.shape).astype(np.uint8)


def memory() -> gym.Env:
    return Shown(2, 3)


def pictures() -> gym.Env:
    return Shown(1, 8, 8)
