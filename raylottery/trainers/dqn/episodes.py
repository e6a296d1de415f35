"""Greedy episodes, from starts that are the same for every agent: how a score is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch

from raylottery.spec import DQNTrainer, derive_seed
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.nets import QNet


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode, whole."""

    seed: int
    total: float
    """The undiscounted sum of its rewards."""
    steps: int


def evaluation_seeds(count: int) -> list[int]:
    """The starts that every agent is measured on."""
    return [derive_seed("evaluation", i) % 2**31 for i in range(count)]


class Arena:
    """Environments kept for measuring one agent after the other.

    All are acted in with one pass through the network, always of the same size, so that an
    episode does not depend on how many others are still going on.
    """

    def __init__(self, spec: DQNTrainer, seeds: Sequence[int], render: str | None = None):
        self.seeds = list(seeds)
        self.envs = [envs.make(spec, render=render) for _ in seeds]
        self.spec = spec

    def play(self, net: QNet) -> list[Episode]:
        """One greedy episode of each environment."""
        act = greedy(net)
        obs = np.stack([start(env, seed) for env, seed in zip(self.envs, self.seeds, strict=True)])
        totals = [0.0] * len(self.envs)
        steps = [0] * len(self.envs)
        going = list(range(len(self.envs)))
        while going:
            actions = act(obs)
            for i in tuple(going):
                obs[i], reward, terminated, truncated, _ = self.envs[i].step(actions[i])
                totals[i] += float(reward)
                steps[i] += 1
                if terminated or truncated:
                    going.remove(i)
        return [
            Episode(seed=seed, total=total, steps=taken)
            for seed, total, taken in zip(self.seeds, totals, steps, strict=True)
        ]

    def close(self) -> None:
        for env in self.envs:
            env.close()


def start(env: gym.Env, seed: int) -> np.ndarray:
    obs, _ = env.reset(seed=seed)
    return obs


def greedy(net: QNet) -> Callable[[np.ndarray], np.ndarray]:
    """The best action of each observation."""
    device = next(net.parameters()).device

    @torch.no_grad()
    def act(obs: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(obs).to(device)).argmax(dim=-1).cpu().numpy()

    return act
