"""Observations with nuisance inputs behind the environment's own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from raylottery.errors import UsageError
from raylottery.spec import derive_seed
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.nuisance import Nuisance


def widened(env: gymnasium.Env, spec: DQNTrainer) -> gymnasium.Env:
    """An environment that shows what the specification asks for besides; refused for images."""
    if not spec.nuisance.inputs:
        return env
    space = env.observation_space
    assert isinstance(space, Box)
    what = "images" if len(space.shape) == 3 else "bytes" if space.dtype == np.uint8 else None
    if what is not None:
        raise UsageError(
            f"trainer.nuisance: adds numbers to flat observations, and {spec.env} shows {what} of "
            f"shape {space.shape}. Leave it out, or take another environment."
        )
    return _Widened(env, spec.nuisance, int(np.prod(space.shape)))


class _Widened(gymnasium.Wrapper):
    """Draws noise from a stream of its own, so that the environment's chance stays as it is.

    The stream begins anew where the environment is seeded, and each observation takes as many
    numbers of it.
    """

    def __init__(self, env: gymnasium.Env, extra: Nuisance, own: int):
        super().__init__(env)
        self.noise, self.scale = extra.noise, np.float32(extra.scale)
        self.sources = np.array(extra.sources(own), np.int64)
        self.chance = np.random.default_rng()
        self.observation_space = Box(-np.inf, np.inf, (own + extra.inputs,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self.chance = np.random.default_rng(derive_seed("nuisance", seed))
        obs, info = self.env.reset(seed=seed, options=options)
        return self.widened(obs), info

    def step(self, action: int):
        obs, *rest = self.env.step(action)
        return self.widened(obs), *rest

    def widened(self, obs: np.ndarray) -> np.ndarray:
        own = obs.ravel()
        noise = self.scale * self.chance.standard_normal(self.noise, np.float32)
        return np.concatenate([own, noise, own[self.sources]])
