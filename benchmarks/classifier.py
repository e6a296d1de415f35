"""How fast a ticket trains on images, against a plain torch loop: images per CPU-second.

    python benchmarks/classifier.py [--quick] [--json FILE] [--device cuda]

The plain loop is the one of many a script: torchvision's CIFAR10 and its transforms of PIL images,
a DataLoader, torch.nn.utils.prune, SGD. Both train the same network from the same weights, with
the same masks at half density, on the same generated images in batches of 128. Each has a process
and a thread of its own, and they train in turns; figures are medians over the turns, and ratios
medians of the turns' ratios. The loss of each at first and at last is shown: fast and wrong would
be no use. What the masks cost is what a step takes longer than one of the same loop whose guard
does nothing: those two share a process, for where its memory lies may make more of a difference.

On a GPU the clock is the wall's, the plain loop has a loader process for each core, and our loop
trains for an epoch under a watch that fails where the processor waits for the GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import ClassifierTrainer, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.classifier import nets
from raylottery.trainers.classifier.data import Dataset
from raylottery.trainers.classifier.loop import Classifier, Learner


MODELS = {"cnn-16-32-64": 10, "conv-2": 2, "resnet-20": 3}
"""The networks, and the updates of a turn on a CPU."""
BATCH = 128
STUDY = """
name: benchmark
trainer:
  {{kind: classifier, dataset: cifar-like, examples: 50000, model: {model}, length: 100ep,
   batch_size: {batch}, optimizer: sgd, lr: 0.1, momentum: 0.9, augment: flip-crop,
   precision: {precision}}}
prune: {{fraction: 0.5, rounds: 1}}
eval: {{every: 100%}}
seeds: [0]
"""
PLAIN, OURS, UNMASKED, BF16 = LOOPS = (
    "plain torch", "raylottery", "raylottery, without masks", "raylottery, bf16"
)  # fmt: skip


def trainer_of(model: str, device: str, precision: str = "float32") -> Classifier:
    study = STUDY.format(model=model, batch=BATCH, precision=precision)
    trainer = make_trainer(parse_sweep(study), gpu=device == "cuda")
    assert isinstance(trainer, Classifier)
    return trainer


def ticket_of(trainer: Classifier) -> Ticket:
    """The larger half of a network's weights."""
    weights = trainer.initial(0)
    sizes = {name: weights[name].abs() for name in trainer.prunable(biases=False).names}
    median = torch.cat([size.flatten() for size in sizes.values()]).median()
    masks = Masks({name: size > median for name, size in sizes.items()})
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


class Plain:
    """The loop as it is written everywhere."""

    def __init__(self, spec: ClassifierTrainer, ticket: Ticket, at: Path, device: str):
        net = nets.build(spec)
        net.load_state_dict(dict(ticket.unmasked))
        for name, mask in ticket.masks.items():
            layer = net.get_submodule(name.removesuffix(".weight"))
            prune.custom_from_mask(layer, "weight", mask)
        self.net = net.to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=spec.lr, momentum=spec.momentum)
        self.batches = endless(at, device)
        self.device = device
        self.losses: list[Tensor] = []

    def train(self, updates: int) -> None:
        for _ in range(updates):
            x, y = (t.to(self.device, non_blocking=True) for t in next(self.batches))
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.detach())


class Written(CIFAR10):
    """The data set that `publish` wrote, in files that have no published checksums."""

    train_list = [("data_batch_1", None)]  # noqa: RUF012 - as in torchvision
    test_list = []  # noqa: RUF012
    meta = CIFAR10.meta | {"md5": None}


def publish(dataset: Dataset, folder: Path) -> None:
    """Write training images in the format of CIFAR-10."""
    at = folder / Written.base_folder
    at.mkdir()
    train = dataset.train
    images = {"data": train.x.flatten(1).numpy(), "labels": train.y.tolist()}
    (at / Written.train_list[0][0]).write_bytes(pickle.dumps(images))
    (at / Written.meta["filename"]).write_bytes(pickle.dumps({Written.meta["key"]: []}))
    moments = {"mean": dataset.mean.tolist(), "std": dataset.std.tolist()}
    (folder / "moments.json").write_text(json.dumps(moments))


def endless(at: Path, device: str) -> Iterator[Sequence[Tensor]]:
    """Batches of what `publish` wrote, epoch after epoch."""
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(**json.loads((at / "moments.json").read_text())),
    ]
    loader = DataLoader(
        Written(at, transform=transforms.Compose(steps)),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=(os.cpu_count() or 1) if device == "cuda" else 0,
        pin_memory=device == "cuda",
    )
    while True:
        yield from loader


class Ours:
    """The loop of raylottery's classifier, between two evaluations."""

    def __init__(self, trainer: Classifier, ticket: Ticket):
        trainer.net.load_state_dict(dict(ticket.weights))
        trainer.net.train()
        total = trainer.spec.total_steps
        start = Start(
            ticket=ticket, data_seed=0, trunk_seed=0, clock=0, end=total, length=total,
            previous=None, searching=False, next_masks=None,
        )  # fmt: skip
        self.learner = Learner(trainer, start)
        self.at = 0

    @property
    def losses(self) -> list[Tensor]:
        return self.learner.losses

    def train(self, updates: int) -> None:
        self.learner.advance(self.at, self.at + updates, auditing=False)
        self.at += updates


@contextlib.contextmanager
def idle(learner: Learner) -> Iterator[None]:
    """For a while, a guard that does nothing."""
    guard, learner.guard = learner.guard, Idle()
    yield
    learner.guard = guard


class Idle:
    """A guard that does nothing."""

    def mask_gradients(self) -> None:
        pass

    def mask_weights(self) -> None:
        pass


class Rival:
    """One of the loops, in a process of its own: what a loop does to the memory of its process
    another does not feel.
    """

    here: Plain | Ours
    """The loop, in that process."""

    def __init__(self, loop: str, at: Path, device: str):
        self.loop, self.at, self.device = loop, at, device
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([Classifier.__module__])
        self.process = ProcessPoolExecutor(1, context, torch.set_num_threads, (1,))

    def begin(self, trainer: Classifier, ticket: Ticket) -> Future:
        how = (self.loop, trainer.spec, ticket, self.at, self.device)
        return self.process.submit(Rival.made, *how)

    def rate(self, updates: int) -> float:
        """Train; images per second."""
        return self.process.submit(Rival.timed, updates, self.device).result()

    def without_and_with(self, updates: int) -> tuple[float, float]:
        """The same without masks and with them."""
        return self.process.submit(Rival.both_timed, updates, self.device).result()

    def losses(self) -> list[float]:
        return self.process.submit(Rival.lost).result()

    def watched(self) -> None:
        self.process.submit(Rival.train_watched).result()

    @staticmethod
    def made(loop: str, spec: ClassifierTrainer, ticket: Ticket, at: Path, device: str) -> None:
        torch.manual_seed(0)
        if loop == PLAIN:
            Rival.here = Plain(spec, ticket, at, device)
            return
        precision = "bf16" if loop == BF16 else "float32"
        Rival.here = Ours(trainer_of(spec.model, device, precision), ticket)

    @staticmethod
    def timed(updates: int, device: str) -> float:
        begun = clock(device)
        Rival.here.train(updates)
        return BATCH * updates / (clock(device) - begun)

    @staticmethod
    def both_timed(updates: int, device: str) -> tuple[float, float]:
        Rival.timed(1, device)  # finds the caches full of another's data
        with idle(Rival.here.learner):
            before = Rival.timed(updates, device)
        masked = [Rival.timed(updates, device) for _ in range(2)]
        with idle(Rival.here.learner):
            after = Rival.timed(updates, device)
        return statistics.harmonic_mean([before, after]), statistics.harmonic_mean(masked)

    @staticmethod
    def lost() -> list[float]:
        return torch.stack(Rival.here.losses).tolist()

    @staticmethod
    def train_watched() -> None:
        """Train for an epoch; RuntimeError if the processor waits for the GPU on the way."""
        torch.cuda.set_sync_debug_mode("error")
        try:
            Rival.here.train(Rival.here.learner.batches.order.per_epoch)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def speed(rivals: dict[str, Rival], model: str, turns: int, updates: int) -> list[dict]:
    """Images per second of each, in turns."""
    trainer = trainer_of(model, "cpu")
    ticket = ticket_of(trainer)
    for begun in [rival.begin(trainer, ticket) for rival in rivals.values()]:
        begun.result()
    for rival in rivals.values():
        rival.rate(updates)  # warms up
    rates: dict[str, list[float]] = {loop: [] for loop in rivals}
    costs = []
    for _ in range(turns):
        for loop, rival in rivals.items():
            if loop == UNMASKED:
                without, masked = rival.without_and_with(-(-updates // 2))
                rates[loop].append(without)
                costs.append(without / masked - 1)
            else:
                rates[loop].append(rival.rate(updates))

    rows = []
    for loop, rival in rivals.items():
        losses = rival.losses()
        few = -(-len(losses) // 4)
        rows.append(
            {
                "model": model,
                "loop": loop,
                "images_per_s": statistics.median(rates[loop]),
                "ratio": statistics.median(
                    r / p for r, p in zip(rates[loop], rates[PLAIN], strict=True)
                ),
                "cost_of_masks": statistics.median(costs) if loop == UNMASKED else None,
                "images": BATCH * len(losses),
                "loss_at_first": statistics.fmean(losses[:few]),
                "loss_at_last": statistics.fmean(losses[-few:]),
                "turns": turns,
            }
        )
    return rows


def has_bf16(device: str) -> bool:
    """Whether there are units for bf16, without which it saves no time."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute, rough figures")
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here")
    units = has_bf16(device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAYLOTTERY_DATA"] = folder
        publish(trainer_of("conv-2", "cpu").dataset, Path(folder))
        rivals = {loop: Rival(loop, Path(folder), device) for loop in LOOPS}
        for model, updates in MODELS.items():
            if device == "cuda":
                updates *= 100
            elif options.quick:
                updates //= 2
            measured = speed(rivals, model, 2 if options.quick else 11, updates)
            rows += measured
            sys.stdout.write(f"{model}, {measured[0]['images']} images each\n")
            for row in measured:
                sys.stdout.write(line(row, "s" if device == "cuda" else "CPU-s", units))
            if device == "cuda":
                rivals[OURS].watched()
        for rival in rivals.values():
            rival.process.shutdown()
    if options.json:
        figures = {"device": device, "bf16_units": units, "speed": rows}
        options.json.write_text(json.dumps(figures, indent=1))


def line(row: dict, second: str, units: bool) -> str:
    notes = [f"(median of {row['turns']})"]
    if row["loop"] == UNMASKED:  # by turns it is not, so its loss is nobody's
        notes.append(f"a step with them takes {row['cost_of_masks']:.1%} longer")
    else:
        notes.append(f"loss {row['loss_at_first']:.2f} to {row['loss_at_last']:.2f}")
    if row["loop"] == BF16 and not units:
        notes.append("no bf16 units")
    return (
        f"    {row['loop']:26} {row['images_per_s']:6.0f} images/{second} {row['ratio']:6.2f}x  "
        f"{', '.join(notes)}\n"
    )


if __name__ == "__main__":
    main()
