"""Greedy episodes, from starts that are the same for every agent: how a score is made."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from raylottery.errors import TrainingError
from raylottery.spec import DQNTrainer, derive_seed
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn import envs, nets, video
from raylottery.trainers.dqn.nets import QNet


LONGEST = 1_000_000
"""Steps after which a greedy episode counts as one that never ends."""


Greedy = Callable[[np.ndarray], np.ndarray]
"""The best action of each observation."""


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
    episode does not depend on how many others are still going on, or are played at all.
    """

    def __init__(
        self,
        spec: DQNTrainer,
        seeds: Sequence[int],
        *,
        only: Iterable[int] | None = None,
        make: Callable[[DQNTrainer], gym.Env] = envs.make,
    ):
        """`only` names, by their places, the seeds that are played: without it, all are."""
        self.spec = spec
        self.seeds = list(seeds)
        places = range(len(seeds)) if only is None else only
        self.envs = {place: make(spec) for place in places}

    def play(self, act: Greedy) -> list[Episode]:
        """One greedy episode of each environment."""
        space = envs.spaces(self.spec)
        obs = np.zeros((len(self.seeds), *space.shape), space.dtype)
        for place, env in self.envs.items():
            with self._named(place, 0):
                obs[place] = start(env, self.seeds[place])
        totals = dict.fromkeys(self.envs, 0.0)
        steps = dict.fromkeys(self.envs, 0)
        going = list(self.envs)
        while going:
            actions = act(obs)
            for place in tuple(going):
                env = self.envs[place]
                with self._named(place, steps[place] + 1):
                    obs[place], reward, terminated, truncated, _ = env.step(actions[place])
                totals[place] += float(reward)
                steps[place] += 1
                if terminated or truncated:
                    going.remove(place)
                elif steps[place] == LONGEST:
                    raise TrainingError(
                        f"a greedy episode of {self.spec.env} has not ended in {LONGEST} steps: "
                        f"give it an end, as with env_args: {{max_episode_steps: 5000}}"
                    )
        return [
            Episode(seed=self.seeds[place], total=totals[place], steps=steps[place])
            for place in self.envs
        ]

    @contextmanager
    def _named(self, place: int, step: int) -> Generator[None]:
        """Says of an error which environment it comes from, and where in which episode."""
        try:
            yield
        except Exception as error:
            raise TrainingError(
                f"the environment {self.spec.env} failed at step {step} of the greedy episode of "
                f"seed {self.seeds[place]}: {type(error).__name__}: {error}"
            ) from error

    def close(self) -> None:
        for env in self.envs.values():
            env.close()


def play_again(
    spec: DQNTrainer, weights: Weights, count: int, *, of: int, film: Path | None = None
) -> list[Episode]:
    """The first `count` of the `of` episodes behind the score of a trained agent.

    With a `film`, a folder that is there, each is recorded as it is played. That goes one at a
    time, as the frames of an episode are in memory until it ends.
    """
    act = acting(spec, weights)
    seeds = evaluation_seeds(of)
    if film is None:
        with closing(Arena(spec, seeds, only=range(count))) as arena:
            return arena.play(act)
    episodes = []
    for place in range(count):
        recorded = partial(video.recorded, folder=film / str(place))
        with closing(Arena(spec, seeds, only=[place], make=recorded)) as arena:
            episodes += arena.play(act)
    return episodes


def start(env: gym.Env, seed: int) -> np.ndarray:
    obs, _ = env.reset(seed=seed)
    return obs


def acting(spec: DQNTrainer, weights: Weights) -> Greedy:
    """How an agent was measured, from its weights."""
    if spec.engine == "compiled":
        from raylottery.trainers.dqn.compiled.acting import greedy as compiled  # loads Numba

        return compiled(spec, weights)
    torch.set_num_threads(spec.threads)
    net = nets.build(spec, envs.spaces(spec))
    net.load_state_dict(dict(weights), strict=True)
    return greedy(net)


def greedy(net: QNet) -> Greedy:
    device = next(net.parameters()).device

    @torch.no_grad()
    def act(obs: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(obs).to(device)).argmax(dim=-1).cpu().numpy()

    return act
