"""A round of a classifier's training, whichever engine makes its updates.

Everything a round yields is a function of its start: batch `t` of the schedule is drawn from the
data seed and `t` alone, so a training that begins at step 500 sees what one that runs through
would have seen next. The test set is read once, after the last step: for the last weights, and
for those at which a stop rule ended the search. Where none did, for those that had the lowest
validation loss. Where it is asked for, the ticket is measured there too, before it is trained.
"""

from __future__ import annotations

import functools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from raylottery.errors import TrainingError
from raylottery.pruning.prunable import prunable
from raylottery.sizes.prunable import Prunable
from raylottery.spec import ClassifierTrainer, Sweep, derive_seed
from raylottery.trainers.base import Outcome, Scores, Start, Weights, digest, seeded
from raylottery.trainers.classifier import data, nets
from raylottery.trainers.classifier.progress import Progress, copied, mean
from raylottery.trainers.positions import positions
from raylottery.trainers.stopping import Search


class Learner(Protocol):
    """A masked network and what moves it: a new one for each training."""

    revived: int
    """Pruned weights that were found to be something else than zero."""

    def advance(self, step: int, goal: int, *, auditing: bool) -> None:
        """Make the updates from one step of the schedule up to another; auditing, look for revived
        weights in the end."""
        ...

    def mean_loss(self) -> tuple[float, int]:
        """Of the updates since it was last asked, and how many they are."""
        ...

    def measure(self, split: str) -> tuple[float, float]:
        """Mean loss and accuracy on a part of the data: train, valid or test."""
        ...

    def weights(self) -> Weights:
        """As they are now, on the CPU and apart from the network."""
        ...

    def load(self, weights: Weights) -> None:
        """Have other weights, to be measured."""
        ...

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        """All that the updates to come depend on, in sections; and the losses nobody asked for."""
        ...

    def take(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Have the state of another learner of the same start."""
        ...


class SoloClassifier(ABC):
    """A solo trainer of the specification's network on its data set."""

    def __init__(self, study: Sweep, device: torch.device):
        spec = study.trainer
        assert isinstance(spec, ClassifierTrainer)
        self.spec = spec
        self.torch_device = device
        self.device = describe(device)
        self.eval_every = spec.steps(study.eval.every)
        self.aside_every = spec.steps(study.checkpoint) if study.checkpoint else None
        self.stop = study.stop
        self.supermask = study.eval.supermask

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def make_ready(self) -> None:
        """Load what the first training would wait for, which is no training."""

    @abstractmethod
    def learner(self, start: Start) -> Learner:
        """One that has the start's ticket."""

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        return data.load(self.spec, str(self.torch_device))

    @functools.cached_property
    def _skeleton(self) -> nn.Module:
        return nets.skeleton(self.spec)

    def prunable(self, *, biases: bool, exclude: Sequence[str] = ()) -> Prunable:
        return prunable(self._skeleton, biases=biases, exclude=exclude)

    def positions(self) -> Mapping[str, int]:
        return positions(self._skeleton, self.spec.size.shape)

    def total_params(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton.parameters())

    def initial(self, seed: int) -> Weights:
        with seeded(derive_seed("weights", seed)):
            return copied(nets.build(self.spec))

    def train(self, start: Start) -> Outcome:
        """Train a start to its end."""
        self.make_ready()
        begun = time.perf_counter()
        learner = self.learner(start)
        supermask = learner.measure("test")[1] if self.supermask else None
        search = Search(self.stop, start)
        per_epoch = self.spec.size.train // self.spec.batch_size
        now = Progress(learner, search, start.clock)
        if start.clock in start.keep:
            now.snapshots[start.clock] = learner.weights()
        now.go_on(start)
        begun -= now.seconds

        for step in self.pauses(now.step, start, per_epoch if search.watches_masks else None):
            if search.ends_training:
                break
            measuring = step % self.eval_every == 0 or step == start.end
            settling = search.watches_masks and step % per_epoch == 0
            learner.advance(now.step, step, auditing=measuring or settling)
            now.step = step
            if step in start.keep:
                now.snapshots[step] = learner.weights()
            met = settling and search.settled(step, learner.weights)
            if measuring or search.ends_training:
                valid_loss, valid_accuracy = take_stock(now, self.loss_until(now))
                met = search.measured(step, valid_accuracy, valid_loss) or met
                if start.keep:
                    now.digests[step] = digest(learner.weights())
            if met:
                now.stopped = learner.weights()
            if self.aside_every and step % self.aside_every == 0 and start.aside:
                now.put_aside(start, time.perf_counter() - begun)
        if not now.log.points:  # a ticket that is not to be trained at all
            take_stock(now, learner.measure("train")[0])

        weights = learner.weights()
        train_accuracy = learner.measure("train")[1]
        score = score_at_stop = learner.measure("test")[1]
        if now.stopped is not None or now.best.step != now.step:
            learner.load(now.stopped or now.best.weights)
            score_at_stop = learner.measure("test")[1]
        valid = now.log.valid_accuracy
        scores = Scores(
            metric="accuracy",
            score=score,
            score_at_stop=score_at_stop,
            score_best=max(valid),
            score_late=mean(valid[-max(1, round(len(valid) / 10)) :]),
            score_area=mean(valid),
            train_score=train_accuracy,
            loss=now.log.train_loss[-1],
            steps=now.step - start.clock,
            stopped_by=search.stopped_by,
            stop_step=search.step,
            supermask_score=supermask,
            min_loss_step=now.best.step,
        )
        return Outcome(
            weights=weights,
            scores=scores,
            curve=now.log.points,
            revived=learner.revived,
            seconds=time.perf_counter() - begun,
            snapshots=now.snapshots,
            stopped=now.stopped,
            digests=now.digests,
        )

    def pauses(self, begin: int, start: Start, per_epoch: int | None) -> list[int]:
        """The steps after `begin` at which something is to be done besides training."""
        aside_every = self.aside_every if start.aside else None
        steps = {
            step
            for distance in (self.eval_every, per_epoch, aside_every)
            if distance
            for step in range(begin // distance * distance, start.end, distance)
        }
        return sorted(s for s in {*steps, *start.keep, start.end} if begin < s <= start.end)

    def loss_until(self, now: Progress) -> float:
        """The mean training loss since it was last asked for."""
        loss, updates = now.learner.mean_loss()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss} between steps {now.step - updates} and "
                f"{now.step}: lower trainer.lr (now {self.spec.lr}) or take another optimizer"
            )
        return loss


def take_stock(now: Progress, train_loss: float) -> tuple[float, float]:
    """Measure the validation set, for the curve and for the lowest loss; its loss and accuracy."""
    loss, accuracy = now.learner.measure("valid")
    now.log.add(now.step, train_loss, loss, accuracy)
    now.best.offer(now.learner, loss, now.step)
    return loss, accuracy


def describe(device: torch.device) -> str:
    """A device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


class Order:
    """The order of the training examples: one for each epoch, fixed by the seed.

    Batches are whole ones only; those that are left of an epoch are dropped.
    """

    def __init__(self, spec: ClassifierTrainer, seed: int):
        self.examples = spec.size.train
        self.size = spec.batch_size
        self.seed = seed
        self.per_epoch = self.examples // self.size

    def of(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        return torch.randperm(self.examples, generator=generator)
