"""The learning rate at each step of a training, as the definition says it.

A clock may start anywhere: the rate of step 500 is the same whether the training began there or
went through. A shorter training has the same schedule, shrunk; past its end, where fine-tuning
goes on, the last rate stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from raylottery.spec import ClassifierTrainer


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
        spec = self.spec
        scale = self.length / spec.total_steps
        warmup = spec.steps(spec.warmup) * scale
        if step < warmup:
            return (step + 1) / warmup if warmup > 1 else 1.0
        passed = (step - warmup) / (self.length - warmup)
        if spec.schedule == "drops":
            falls = sum(step >= spec.steps(drop) * scale for drop in spec.drops)
            return spec.drop_factor**falls
        if spec.schedule == "cosine":
            return (1 + math.cos(math.pi * passed)) / 2
        if spec.schedule == "triangular":
            half = 1 / 2 / (self.length - warmup)  # of a step, so that the first has some rate
            return 1 - abs(2 * (passed + half) - 1)
        return 1.0
