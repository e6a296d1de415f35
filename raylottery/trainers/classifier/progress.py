"""What has come of a training so far, and how it is put aside so that a kill costs little.

What is put aside is all that the rest of the training depends on. Whatever else it needs follows
from the start and the step alone: data, augmentation and dropout have no state. So a training that
went on from the middle gives what one that was never cut off does.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from raylottery.pruning.masks import Masks
from raylottery.trainers.base import CurvePoint, Start, Weights
from raylottery.trainers.stopping import Search


if TYPE_CHECKING:
    from raylottery.trainers.classifier.rounds import Learner


log = logging.getLogger(__name__)

FORMAT = "1"
"""Raised whenever what is put aside has another form; older ones are then left alone."""


@dataclass
class Best:
    """The weights of the lowest validation loss so far; the first of equals."""

    loss: float = math.inf
    step: int = -1
    weights: Weights = field(default_factory=dict)

    def offer(self, learner: Learner, loss: float, step: int) -> None:
        if loss < self.loss or self.step < 0:
            self.loss, self.step, self.weights = loss, step, learner.weights()


@dataclass
class Log:
    """The learning curve of one training."""

    points: list[CurvePoint] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    valid_accuracy: list[float] = field(default_factory=list)

    def add(self, step: int, train_loss: float, valid_loss: float, valid_accuracy: float) -> None:
        self.train_loss.append(train_loss)
        self.valid_accuracy.append(valid_accuracy)
        self.points += [
            CurvePoint(step=step, split="train", metric="loss", value=train_loss),
            CurvePoint(step=step, split="valid", metric="loss", value=valid_loss),
            CurvePoint(step=step, split="valid", metric="accuracy", value=valid_accuracy),
        ]


@dataclass
class Progress:
    """One training, up to a step."""

    learner: Learner
    search: Search
    step: int
    best: Best = field(default_factory=Best)
    log: Log = field(default_factory=Log)
    snapshots: dict[int, Weights] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    stopped: Weights | None = None
    seconds: float = 0.0
    """That it took before it was put aside last."""

    def put_aside(self, start: Start, seconds: float) -> None:
        """Keep all of it, in place of what was kept before."""
        assert start.aside is not None
        sections = {
            **self.learner.state(),
            "best": self.best.weights,
            "stopped": self.stopped or {},
        }
        sections |= {f"snapshot-{step}": weights for step, weights in self.snapshots.items()}
        told: list[tuple[int, float | None]] = []
        for step, seen in self.search.seen:
            if isinstance(seen, Masks):
                sections[f"seen-{step}"] = seen
            told.append((step, None if isinstance(seen, Masks) else seen))
        rest = {
            "step": self.step,
            "revived": self.learner.revived,
            "best": [self.best.loss, self.best.step],
            "points": [asdict(point) for point in self.log.points],
            "train_loss": self.log.train_loss,
            "valid_accuracy": self.log.valid_accuracy,
            "snapshots": list(self.snapshots),
            "digests": list(self.digests.items()),
            "told": told,
            "has_stopped": self.stopped is not None,
            "seconds": seconds,
        }
        # As a tensor, for it is those that a store keeps the checksum of.
        written = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
        start.aside.save({**sections, "rest": {"json": written}}, {"format": FORMAT})

    def go_on(self, start: Start) -> None:
        """Take up what was put aside, if there is anything that this training can go on from."""
        found = start.aside.load() if start.aside is not None else None
        if found is None:
            return
        sections, said = found
        if said.get("format") != FORMAT:
            log.info("what was put aside is of another raylottery: the round begins anew")
            return
        rest = json.loads(sections["rest"]["json"].numpy().tobytes())
        missed = {step for step in start.keep if step <= rest["step"]} - {*rest["snapshots"]}
        if missed:
            log.info("what was put aside lacks the weights of step %s, which are wanted by now: "
                     "the round begins anew", min(missed))  # fmt: skip
            return
        names = list(self.learner.weights())

        def weights(section: str) -> Weights:
            return {name: sections[section][name] for name in names}

        self.learner.take(sections)
        self.learner.revived = rest["revived"]
        self.step = rest["step"]
        self.best = Best(*rest["best"], weights("best") if "best" in sections else {})
        points = [CurvePoint(**point) for point in rest["points"]]
        self.log = Log(points, rest["train_loss"], rest["valid_accuracy"])
        self.snapshots = {step: weights(f"snapshot-{step}") for step in rest["snapshots"]}
        self.digests = dict(rest["digests"])
        for step, seen in rest["told"]:
            self.search.told(step, Masks(sections[f"seen-{step}"]) if seen is None else seen)
        self.stopped = weights("stopped") if rest["has_stopped"] else None
        self.seconds = rest["seconds"]
        log.info("the round goes on from step %s of %s, where it was put aside",
                 self.step, start.end)  # fmt: skip


def copied(net: nn.Module) -> Weights:
    """The state dict, on the CPU and apart from the network it was taken from."""
    return {name: t.detach().to("cpu", copy=True) for name, t in net.state_dict().items()}


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
