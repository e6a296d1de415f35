"""Where exploration and the learning rate stand at each step of a round."""

from __future__ import annotations

from dataclasses import dataclass

from raylottery.spec import DQNTrainer, Reset
from raylottery.trainers.base import Start


@dataclass(frozen=True)
class Schedule:
    """The schedules of one round, by schedule step; shrunk with it where it is shorter."""

    spec: DQNTrainer
    reset: Reset
    start: Start

    def lr(self, step: float) -> float:
        """The learning rate of the update that follows `step`."""
        passed = self._share(step, self.reset.lr)
        return self.spec.lr * (1 - (1 - self.spec.lr_end) * passed)

    def epsilon(self, step: float) -> float:
        """The share of random actions."""
        decay = self.spec.steps(self.spec.epsilon_decay) / self.spec.total_steps
        passed = self._share(step, self.reset.exploration)
        left = max(0.0, 1 - passed / decay) if decay else 0.0
        return self.spec.epsilon_end + (1 - self.spec.epsilon_end) * left

    def _share(self, step: float, where: str) -> float:
        """How much of a schedule has passed, from 0 to 1."""
        if where == "end" and self.start.previous is not None:
            return 1.0
        passed = step - self.start.clock if where == "start" else step
        return min(1.0, passed / self.start.length)
