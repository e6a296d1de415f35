"""Trains a masked torch classifier, one ticket at a time.

Everything a round yields is a function of its start: batch `t` of the schedule is drawn from the
data seed and `t` alone, so a training that begins at step 500 sees what one that runs through
would have seen next. The test set is read once, after the last step: for the last weights, and
for those at which a stop rule ended the search. Where none did, for those that had the lowest
validation loss.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch._dynamo  # an optimizer's first step would import it: better here than in a round
from torch import Tensor, nn
from torch.nn import functional

from raylottery.errors import TrainingError
from raylottery.pruning.guard import Guard
from raylottery.pruning.prunable import Prunable, prunable
from raylottery.spec import ClassifierTrainer, Sweep, derive_seed
from raylottery.trainers.base import Outcome, Scores, Start, Weights, digest
from raylottery.trainers.classifier import data, nets
from raylottery.trainers.classifier.memory import keep_freed_memory
from raylottery.trainers.classifier.progress import Progress, copied, mean
from raylottery.trainers.classifier.schedule import Schedule
from raylottery.trainers.positions import positions
from raylottery.trainers.stopping import Search


OPTIMIZERS = {
    "sgd": lambda groups, spec: torch.optim.SGD(
        groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov, fused=True
    ),
    "adam": lambda groups, spec: torch.optim.Adam(groups, lr=spec.lr, fused=True),
    "adamw": lambda groups, spec: torch.optim.AdamW(groups, lr=spec.lr, fused=True),
}
CHUNK = 1000
"""Examples that are measured at a time."""


class Classifier:
    """A solo trainer of the specification's network on its data set."""

    capacity = 1

    def __init__(self, study: Sweep, device: torch.device):
        spec = study.trainer
        assert isinstance(spec, ClassifierTrainer)
        self.spec = spec
        self.torch_device = device
        self.device = describe(device)
        self.eval_every = spec.steps(study.eval.every)
        self.aside_every = spec.steps(study.checkpoint) if study.checkpoint else None
        self.stop = study.stop
        self.gpus = study.resources.gpus
        if device.type == "cpu":
            keep_freed_memory()

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        return data.load(self.spec, str(self.torch_device))

    @functools.cached_property
    def net(self) -> nn.Module:
        """One network for all rounds, so that it is compiled once, if at all."""
        net = self._build().to(self.torch_device)
        return net.to(memory_format=torch.channels_last) if self.spec.channels_last else net

    @functools.cached_property
    def forward(self) -> Callable[[Tensor], Tensor]:
        if not self.spec.compile:
            return self.net
        # On a GPU it is the launching of small kernels that takes long: CUDA graphs record it.
        on_gpu = self.torch_device.type == "cuda"
        return torch.compile(self.net, mode="reduce-overhead" if on_gpu else "default")

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("weights", seed))
            return copied(self._build())

    def train(self, starts: Sequence[Start]) -> list[Outcome]:
        devices = [self.torch_device] if self.torch_device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                return [self._train(start) for start in starts]
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the memory of {self.device} is full: lower trainer.batch_size (now "
                f"{self.spec.batch_size}), or raise resources.gpus (now {self.gpus:g}) so that "
                f"fewer trials share a GPU"
            ) from error

    def close(self) -> None:
        pass  # it holds nothing but memory

    def _build(self) -> nn.Module:
        return nets.build(self.spec)

    def _train(self, start: Start) -> Outcome:
        dataset = self.dataset  # a worker's first takes a while, which is no training
        begun = time.perf_counter()
        torch.set_num_threads(self.spec.threads)
        torch.backends.cuda.matmul.allow_tf32 = self.spec.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = self.spec.precision == "tf32"
        net = self.net
        net.load_state_dict(dict(start.ticket.weights), strict=True)
        net.train()
        learner = Learner(self, start)
        batches = Batches(dataset, self.spec, start.data_seed)
        chance = Chance(self.spec, start.data_seed)
        search = Search(self.stop, start)
        now = Progress(learner, search, start.clock)
        if start.clock in start.keep:
            now.snapshots[start.clock] = copied(net)
        now.go_on(start)
        begun -= now.seconds

        while now.step < start.end and not search.ends_training:
            chance.at(now.step)
            learner.rate(now.step)
            batch = batches.at(now.step)
            now.step += 1
            measuring = now.step % self.eval_every == 0 or now.step == start.end
            settling = search.watches_masks and now.step % batches.per_epoch == 0
            learner.update(*batch, auditing=measuring or settling)
            if now.step in start.keep:
                now.snapshots[now.step] = copied(net)
            met = settling and search.settled(now.step, lambda: copied(net))
            if measuring or search.ends_training:
                valid_loss, valid_accuracy = self.take_stock(now, learner.loss_until(now.step))
                met = search.measured(now.step, valid_accuracy, valid_loss) or met
                if start.keep:
                    now.digests[now.step] = digest(net.state_dict())
            if met:
                now.stopped = copied(net)
            if self.aside_every and now.step % self.aside_every == 0 and start.aside:
                now.put_aside(start, time.perf_counter() - begun)
        if not now.log.points:  # a ticket that is not to be trained at all
            self.take_stock(now, self.measure(dataset.train)[0])

        weights = copied(net)
        train_accuracy = self.measure(dataset.train)[1]
        score = score_at_stop = self.measure(dataset.test)[1]
        if now.stopped is not None or now.best.step != now.step:
            net.load_state_dict(dict(now.stopped or now.best.weights))
            score_at_stop = self.measure(dataset.test)[1]
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

    def take_stock(self, now: Progress, train_loss: float) -> tuple[float, float]:
        """Measure where a training stands; the validation loss and accuracy."""
        loss, accuracy = self.measure(self.dataset.valid)
        now.log.add(now.step, train_loss, loss, accuracy)
        now.best.offer(self.net, loss, now.step)
        return loss, accuracy

    @torch.no_grad()
    def measure(self, split: data.Split) -> tuple[float, float]:
        """Mean loss and accuracy of the network on a split."""
        self.net.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.torch_device)
        correct = torch.zeros((), dtype=torch.int64, device=self.torch_device)
        for x, y in zip(split.x.split(CHUNK), split.y.split(CHUNK), strict=True):
            with self.autocast():
                logits = self.forward(data.prepared(x, self.spec, self.dataset))
            loss += functional.cross_entropy(logits.float(), y).double() * len(y)
            correct += (logits.argmax(dim=1) == y).sum()
        self.net.train()
        return loss.item() / len(split), correct.item() / len(split)

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.torch_device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"
        )


class Learner:
    """A masked network and what moves it."""

    def __init__(self, trainer: Classifier, start: Start):
        self.trainer = trainer
        self.net = trainer.net
        self.spec = trainer.spec
        self.schedule = Schedule(trainer.spec, start.length)
        groups = decaying(trainer.net, trainer.spec)
        self.optimizer = OPTIMIZERS[trainer.spec.optimizer](groups, trainer.spec)
        parameters = trainer.net.named_parameters()
        self.guard = Guard(parameters, start.ticket.masks, self.optimizer)
        self.guard.hold()
        self.losses: list[Tensor] = []
        self.revived = 0

    def rate(self, step: int) -> None:
        """Take the learning rate of the update that follows `step`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr(step)

    def update(self, x: Tensor, y: Tensor, *, auditing: bool) -> None:
        """One step on one batch."""
        with self.trainer.autocast():
            logits = self.trainer.forward(x)
        loss = functional.cross_entropy(
            logits.float(), y, label_smoothing=self.spec.label_smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.guard.mask_gradients()
        self.optimizer.step()
        if auditing:  # before the guard can hide it
            self.revived += self.guard.revived()
        self.guard.mask_weights()
        self.losses.append(loss.detach())

    def loss_until(self, step: int) -> float:
        """The mean loss of the steps up to this one, since it was last asked for."""
        loss = torch.stack(self.losses).mean().item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss} between steps {step - len(self.losses)} and "
                f"{step}: lower trainer.lr (now {self.spec.lr}) or take another optimizer"
            )
        self.losses.clear()
        return loss


def decaying(net: nn.Module, spec: ClassifierTrainer) -> list[dict]:
    """The parameters, in groups by whether they decay."""
    every = list(net.parameters())
    if spec.decay_all:
        return [{"params": every, "weight_decay": spec.weight_decay}]
    return [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Batches:
    """The batches of a schedule: whole ones only, in an order that the seed and the epoch fix.

    What is done to the images of a batch depends on the seed and the step alone.
    """

    def __init__(self, dataset: data.Dataset, spec: ClassifierTrainer, seed: int):
        self.dataset = dataset
        self.spec = spec
        self.seed = seed
        self.per_epoch = len(dataset.train) // spec.batch_size
        self.epoch = -1
        self.order = torch.empty(0, dtype=torch.int64)
        self.chance = torch.Generator(dataset.train.x.device)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of one schedule step."""
        train, size = self.dataset.train, self.spec.batch_size
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
            order = torch.randperm(len(train), generator=generator)
            self.order = order.to(train.y.device, non_blocking=True)
            self.epoch = epoch
        chosen = self.order[place * size : (place + 1) * size]
        x = train.x[chosen]
        if self.spec.augment != "none":
            self.chance.manual_seed(derive_seed(self.seed, "augment", step))
            x = data.augmented(x, self.spec, self.chance)
        return data.prepared(x, self.spec, self.dataset), train.y[chosen]


class Chance:
    """What a network itself draws at random, as dropout does: by the seed and the step alone.

    It draws from torch's global generators. To seed those takes as long as a small network's step,
    and the networks made here draw nothing: it is done for those that are made elsewhere.
    """

    def __init__(self, spec: ClassifierTrainer, seed: int):
        self.wanted = ":" in spec.model
        self.seed = seed

    def at(self, step: int) -> None:
        if self.wanted:
            torch.manual_seed(derive_seed(self.seed, "net", step))


def describe(device: torch.device) -> str:
    """A device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type
