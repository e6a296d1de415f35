"""How fast the two engines train tickets of MLPs: updates per CPU-second.

    python benchmarks/mlp.py [--quick] [--json FILE]

mlp-300-100 learns MNIST-1D, and LeNet-300-100 generated images of MNIST's size, in batches of 100
with Adam. Both engines train the same tickets on the same batches, as a round does between two
evaluations, in one process and on one thread, in turns; figures are medians over the turns, and
ratios medians of the turns' ratios. Masks are drawn at random, layer by layer, the output at half
the rate of the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import DATASETS, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.classifier import packed
from raylottery.trainers.classifier.packed import Whole
from raylottery.trainers.classifier.rounds import Learner, SoloClassifier


STUDY = """
name: benchmark
trainer:
  {{kind: classifier, engine: {engine}, dataset: {dataset}, model: {model}, length: 100ep,
   batch_size: 100, optimizer: adam, lr: 0.001}}
prune: {{fraction: 0.2, rounds: 1}}
seeds: [0]
"""
TASKS = {"mlp-300-100": "mnist1d", "lenet-300-100": "mnist"}
ENGINES = ("torch", "compiled")
DENSITIES = (1.0, 0.2, 0.05, 0.01)
OUTPUT_RATE = np.log(0.9) / np.log(0.8)
"""As an exponent of the density: 10 % a round in place of 20 %."""


def publish() -> None:
    """Write images that look like nothing, but like one thing in each class."""
    size = DATASETS["mnist"]
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 128, (size.classes, *size.shape), np.uint8)

    def some(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, size.classes, count)
        return looks[y] + rng.integers(0, 128, (count, *size.shape), np.uint8), y

    packed.write("mnist", size, Whole(*some(size.train + size.valid), *some(size.test)))


def trainer_of(engine: str, model: str) -> SoloClassifier:
    text = STUDY.format(engine=engine, dataset=TASKS[model], model=model)
    trainer = make_trainer(parse_sweep(text), gpu=False)
    assert isinstance(trainer, SoloClassifier)
    trainer.make_ready()
    return trainer


def ticket_of(trainer: SoloClassifier, density: float) -> Ticket:
    """A random one."""
    weights = trainer.initial(0)
    names = trainer.prunable(biases=False)
    generator = torch.Generator().manual_seed(0)
    masks = {}
    for name in names.names:
        share = density**OUTPUT_RATE if name in names.output else density
        order = torch.randperm(weights[name].numel(), generator=generator)
        masks[name] = (order < round(share * len(order))).view(weights[name].shape)
    return Ticket(weights=apply_mask(weights, Masks(masks)), masks=Masks(masks), unmasked=weights)


class Rival:
    """One engine, under way with a ticket."""

    def __init__(self, trainer: SoloClassifier, ticket: Ticket):
        total = trainer.spec.total_steps
        start = Start(
            ticket=ticket, data_seed=0, trunk_seed=0, clock=0, end=total, length=total,
            previous=None, searching=False, next_masks=None,
        )  # fmt: skip
        self.learner: Learner = trainer.learner(start)
        self.at = 0

    def seconds(self, updates: int) -> float:
        """Of CPU time, for so many updates."""
        begun = time.process_time()
        self.learner.advance(self.at, self.at + updates, auditing=False)
        self.at += updates
        return time.process_time() - begun


def compare(model: str, density: float, turns: int, seconds: float) -> dict:
    trainers = {engine: trainer_of(engine, model) for engine in ENGINES}
    ticket = ticket_of(trainers["torch"], density)
    rivals = {engine: Rival(trainer, ticket) for engine, trainer in trainers.items()}
    updates = {}
    for engine, rival in rivals.items():
        rival.seconds(10)
        updates[engine] = max(10, int(seconds * 50 / rival.seconds(50)))
    rates: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(turns):
        for engine, rival in rivals.items():
            rates[engine].append(updates[engine] / rival.seconds(updates[engine]))
    pairs = zip(*(rates[engine] for engine in ENGINES), strict=True)
    return {
        "model": model,
        "density": density,
        "survivors": ticket.masks.kept,
        "updates_per_cpu_s": {engine: statistics.median(found) for engine, found in rates.items()},
        "ratio": statistics.median(compiled / plain for plain, compiled in pairs),
        "loss": {engine: rival.learner.mean_loss()[0] for engine, rival in rivals.items()},
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half a minute, rough figures")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    turns, seconds = (3, 0.1) if options.quick else (11, 0.5)
    rows = []
    sys.stdout.write(
        "model          density  survivors  updates per CPU-second: torch  compiled\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAYLOTTERY_DATA"] = folder
        publish()
        for model in TASKS:
            for density in DENSITIES:
                row = compare(model, density, turns, seconds)
                rows.append(row)
                rates = row["updates_per_cpu_s"]
                sys.stdout.write(
                    f"{model:14} {density:7} {row['survivors']:10,} {rates['torch']:29,.0f} "
                    f"{rates['compiled']:9,.0f} {row['ratio']:7.1f}x\n"
                )
                sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
