"""Where exploration and the learning rate stand at any steps of a round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raylottery.spec import DQNTrainer, Reset
from raylottery.trainers.base import Start


@dataclass(frozen=True)
class Schedule:
    """The schedules of one round, by schedule step; shrunk with it where it is shorter."""

    spec: DQNTrainer
    reset: Reset
    start: Start

    def lrs(self, steps: np.ndarray) -> np.ndarray:
        """The learning rates of the updates that follow these steps."""
        passed = self._share(steps, self.reset.lr)
        return self.spec.lr * (1 - (1 - self.spec.lr_end) * passed)

    def epsilons(self, steps: np.ndarray) -> np.ndarray:
        """The shares of random actions."""
        decay = self.spec.steps(self.spec.epsilon_decay) / self.spec.total_steps
        passed = self._share(steps, self.reset.exploration)
        left = np.maximum(0.0, 1 - passed / decay) if decay else np.zeros(steps.shape)
        return self.spec.epsilon_end + (1 - self.spec.epsilon_end) * left

    def _share(self, steps: np.ndarray, where: str) -> np.ndarray:
        """How much of a schedule has passed, from 0 to 1."""
        if where == "end" and self.start.previous is not None:
            return np.ones(steps.shape)
        passed = steps - self.start.clock if where == "start" else steps
        return np.minimum(1.0, passed / self.start.length)
