"""Trains mlp classifiers in compiled code, one ticket at a time, on the thread that asks."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from raylottery.kernel import optimizers, passes
from raylottery.kernel.compiled import make_ready
from raylottery.trainers.base import Start
from raylottery.trainers.classifier.compiled import steps
from raylottery.trainers.classifier.compiled.examples import Part, examples
from raylottery.trainers.classifier.compiled.learner import Learner
from raylottery.trainers.classifier.rounds import SoloClassifier


class CompiledClassifier(SoloClassifier):
    """Networks of the kernel's. Nothing is shared between two but data that nobody writes to."""

    threads = True

    @functools.cached_property
    def parts(self) -> Mapping[str, Part]:
        return examples(self.spec)

    def close(self) -> None:
        pass  # it holds nothing but memory

    def make_ready(self) -> None:
        make_ready(passes.forward, passes.backward, optimizers.step, steps.learn, steps.measure)
        _ = self.parts

    def learner(self, start: Start) -> Learner:
        return Learner(self.spec, self.parts, start)
