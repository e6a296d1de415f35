"""The networks of studies as probes look at them: torch's, on the CPU, whatever trained them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import nn

from raylottery.spec import ClassifierTrainer, DQNTrainer, Sweep
from raylottery.trainers.base import seeded


Spec = ClassifierTrainer | DQNTrainer
Found = TypeVar("Found")


class PerNetwork(Generic[Found]):
    """Something of a study's network, worked out once for all rounds that have such a one."""

    def __init__(self, work_out: Callable[[Sweep], Found]):
        self.work_out = work_out
        self.found: dict[str, Found] = {}

    def of(self, study: Sweep) -> Found:
        masked = study.prune.model_dump_json(include={"biases", "exclude"})
        key = study.trainer.model_dump_json() + masked
        if key not in self.found:
            self.found[key] = self.work_out(study)
        return self.found[key]


def network(spec: Spec) -> nn.Module:
    """The network of a specification with any weights, for evaluation."""
    with seeded(0):
        if isinstance(spec, DQNTrainer):
            from raylottery.trainers.dqn import envs, nets

            return nets.build(spec, envs.spaces(spec)).eval()
        from raylottery.trainers.classifier import nets as classifiers

        return classifiers.build(spec).eval()


def input_shape(spec: Spec) -> tuple[int, ...]:
    """The shape of one example, or of one observation."""
    if isinstance(spec, DQNTrainer):
        from raylottery.trainers.dqn import envs

        return envs.spaces(spec).shape
    return spec.size.shape


@contextmanager
def threads(spec: Spec) -> Generator[None]:
    """Torch's threads as in the training: their number changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
