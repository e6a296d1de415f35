"""A few environments stepped together: where experience comes from."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np

from raylottery.errors import TrainingError
from raylottery.spec.dqn import DQNTrainer
from raylottery.trainers.dqn import envs


class Lanes:
    """A few environments stepped together, each with a stream of chance of its own."""

    def __init__(self, spec: DQNTrainer, seeds: Sequence[int]):
        self.spec = spec
        self.space = envs.spaces(spec)
        self.envs = [envs.make(spec) for _ in seeds]
        self.seeds: Sequence[int | None] = seeds
        self.steps = 0

    def reset(self) -> np.ndarray:
        """Begin an episode in every lane; only the first time do the seeds have a say."""
        obs = self._empty()
        for lane, (env, seed) in enumerate(zip(self.envs, self.seeds, strict=True)):
            obs[lane] = self._first(env, seed)
        self.seeds = [None] * len(self.envs)
        return obs

    def step(
        self, actions: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One step in every lane; a lane whose episode ends begins the next one at once.

        The observations to act on next, the successors of these actions, the rewards, whether
        the episodes terminated, and whether they were cut off. The two observations are one array
        unless an episode ended; no array is written to again.
        """
        lanes = len(self.envs)
        final, rewards = self._empty(), np.empty(lanes)
        terminated, truncated = np.empty(lanes, bool), np.empty(lanes, bool)
        ended = []
        # An environment asks less of a plain number than of a numpy one, so they are told that.
        taken = zip(self.envs, np.asarray(actions).tolist(), strict=True)
        for lane, (env, action) in enumerate(taken):
            try:
                final[lane], rewards[lane], terminal, cut, _ = env.step(action)
            except Exception as error:
                raise self._failure(f"step {self.steps + 1}", error) from error
            terminated[lane], truncated[lane] = terminal, cut
            if terminal or cut:
                ended.append(lane)
        self.steps += 1
        if not ended:
            return final, final, rewards, terminated, truncated
        obs = final.copy()
        for lane in ended:
            obs[lane] = self._first(self.envs[lane], None)
        return obs, final, rewards, terminated, truncated

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _first(self, env: gymnasium.Env, seed: int | None) -> np.ndarray:
        """The first observation of an episode, which must be what the environment declares."""
        try:
            obs = np.asarray(env.reset(seed=seed)[0])
        except Exception as error:
            raise self._failure(f"reset after step {self.steps}", error) from error
        # A numpy array takes in many a wrong shape or type without a word.
        if obs.shape != self.space.shape or not np.can_cast(
            obs.dtype, self.space.dtype, "same_kind"
        ):
            raise TrainingError(
                f"the environment {self.spec.env} declares observations of shape "
                f"{self.space.shape} and type {self.space.dtype}, but its reset returned "
                f"{obs.shape} and {obs.dtype}: make its observation_space say what it returns"
            )
        return obs

    def _empty(self) -> np.ndarray:
        return np.empty((len(self.envs), *self.space.shape), self.space.dtype)

    def _failure(self, where: str, error: Exception) -> TrainingError:
        return TrainingError(
            f"the environment {self.spec.env} failed at its {where}: "
            f"{type(error).__name__}: {error}"
        )
