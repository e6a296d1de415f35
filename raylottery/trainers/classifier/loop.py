"""The torch engine: any network, on a CPU or a GPU, one ticket at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
import torch._dynamo  # an optimizer's first step would import it: better here than in a round
from torch import Tensor, nn
from torch.nn import functional

from raylottery.errors import TrainingError
from raylottery.pruning.guard import Guard
from raylottery.spec import ClassifierTrainer, Sweep, derive_seed
from raylottery.trainers.base import Outcome, Start, Weights
from raylottery.trainers.classifier import data, nets
from raylottery.trainers.classifier.memory import keep_freed_memory
from raylottery.trainers.classifier.progress import copied
from raylottery.trainers.classifier.rounds import Order, SoloClassifier
from raylottery.trainers.classifier.schedule import Schedule


OPTIMIZERS = {
    "sgd": lambda groups, spec: torch.optim.SGD(
        groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov, fused=True
    ),
    "adam": lambda groups, spec: torch.optim.Adam(groups, lr=spec.lr, fused=True),
    "adamw": lambda groups, spec: torch.optim.AdamW(groups, lr=spec.lr, fused=True),
}
CHUNK = 1000
"""Examples that are measured at a time."""


class Classifier(SoloClassifier):
    """Networks of torch's."""

    threads = False

    def __init__(self, study: Sweep, device: torch.device):
        super().__init__(study, device)
        self.gpus = study.resources.gpus
        if device.type == "cpu":
            keep_freed_memory()

    @functools.cached_property
    def net(self) -> nn.Module:
        """One network for all rounds, so that it is compiled once, if at all."""
        net = nets.build(self.spec).to(self.torch_device)
        return net.to(memory_format=torch.channels_last) if self.spec.channels_last else net

    @functools.cached_property
    def forward(self) -> Callable[[Tensor], Tensor]:
        if not self.spec.compile:
            return self.net
        # On a GPU it is the launching of small kernels that takes long: CUDA graphs record it.
        on_gpu = self.torch_device.type == "cuda"
        return torch.compile(self.net, mode="reduce-overhead" if on_gpu else "default")

    def train(self, start: Start) -> Outcome:
        devices = [self.torch_device] if self.torch_device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                return super().train(start)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the memory of {self.device} is full: lower trainer.batch_size (now "
                f"{self.spec.batch_size}), or raise resources.gpus (now {self.gpus:g}) so that "
                f"fewer trials share a GPU"
            ) from error

    def close(self) -> None:
        pass  # it holds nothing but memory

    def make_ready(self) -> None:
        _ = self.dataset

    def learner(self, start: Start) -> Learner:
        torch.set_num_threads(self.spec.threads)
        torch.backends.cuda.matmul.allow_tf32 = self.spec.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = self.spec.precision == "tf32"
        self.net.load_state_dict(dict(start.ticket.weights), strict=True)
        self.net.train()
        return Learner(self, start)

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
    """The trainer's network and what moves it."""

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
        self.batches = Batches(trainer.dataset, trainer.spec, start.data_seed)
        self.chance = Chance(trainer.spec, start.data_seed)
        self.losses: list[Tensor] = []
        self.revived = 0

    def advance(self, step: int, goal: int, *, auditing: bool) -> None:
        for at in range(step, goal):
            self.chance.at(at)
            self.rate(at)
            self.update(*self.batches.at(at), auditing=auditing and at == goal - 1)

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

    def mean_loss(self) -> tuple[float, int]:
        loss, updates = torch.stack(self.losses).mean().item(), len(self.losses)
        self.losses.clear()
        return loss, updates

    def measure(self, split: str) -> tuple[float, float]:
        return self.trainer.measure(getattr(self.trainer.dataset, split))

    def weights(self) -> Weights:
        return copied(self.net)

    def load(self, weights: Weights) -> None:
        self.net.load_state_dict(dict(weights))

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        found: dict[str, Mapping[str, Tensor]] = {
            "net": self.net.state_dict(),
            "losses": {"since": torch.stack(self.losses)} if self.losses else {},
        }
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            found[f"moments-{index}"] = tensors
        return found

    def take(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.load(state["net"])
        take_moments(self.optimizer, state)
        since = state.get("losses", {}).get("since", torch.empty(0))
        self.losses = [*since.to(self.trainer.torch_device)]


def take_moments(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Give an optimizer its state back, laid out in memory as the weights, which fused kernels
    go by."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {
            name: torch.empty_like(parameter).copy_(tensor)
            if tensor.shape == parameter.shape
            else tensor
            for name, tensor in state.get(f"moments-{index}", {}).items()
        }
        for index, parameter in enumerate(parameters)
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


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
    """The batches of a schedule; what is done to the images of one depends on the seed and the
    step alone."""

    def __init__(self, dataset: data.Dataset, spec: ClassifierTrainer, seed: int):
        self.dataset = dataset
        self.spec = spec
        self.seed = seed
        self.order = Order(spec, seed)
        self.epoch = -1
        self.chosen = torch.empty(0, dtype=torch.int64)
        self.chance = torch.Generator(dataset.train.x.device)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of one schedule step."""
        train, size = self.dataset.train, self.spec.batch_size
        epoch, place = divmod(step, self.order.per_epoch)
        if epoch != self.epoch:
            self.chosen = self.order.of(epoch).to(train.y.device, non_blocking=True)
            self.epoch = epoch
        chosen = self.chosen[place * size : (place + 1) * size]
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
