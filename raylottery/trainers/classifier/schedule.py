"""The learning rate at each step of a training, as the definition says it.

A clock may start anywhere: the rate of step 500 is the same whether the training began there or
went through. A shorter training has the same schedule, shrunk; past its end, where fine-tuning
goes on, the last rate stays.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from raylottery.spec import ClassifierTrainer, Extent


@dataclass(frozen=True)
class Schedule:
    """The schedule of one training of `length` steps."""

    spec: ClassifierTrainer
    length: int

    def lr(self, step: int) -> float:
        """The learning rate of the update that follows `step`."""
        return self.spec.lr * self.factor(min(step, self.length - 1))

    def factor(self, step: int) -> float:
        """Share of the full learning rate."""
        spec, warmup = self.spec, self.warmup
        if step < warmup:
            return (step + 1) / warmup if warmup > 1 else 1.0
        passed = (step - warmup) / (self.length - warmup)
        if spec.schedule == "drops":
            return spec.drop_factor ** sum(step >= drop for drop in self.drops)
        if spec.schedule == "cosine":
            return (1 + math.cos(math.pi * passed)) / 2
        if spec.schedule == "triangular":
            half = 1 / 2 / (self.length - warmup)  # of a step, so that the first has some rate
            return 1 - abs(2 * (passed + half) - 1)
        return 1.0

    @functools.cached_property
    def warmup(self) -> float:
        """Where it ends."""
        return self.at(self.spec.warmup)

    @functools.cached_property
    def drops(self) -> list[float]:
        """Where they come."""
        return [self.at(drop) for drop in self.spec.drops]

    def at(self, point: Extent) -> float:
        """A point of the whole schedule in this one, which may be shorter."""
        return self.spec.steps(point) * (self.length / self.spec.total_steps)
