"""A trainer for tests, of which many train side by side, and which does what a test tells it to.

Its updates are one draw of chance, so that a round takes no time, and yet all that comes after it
follows from it to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch

from raylottery.sizes.prunable import Prunable
from raylottery.spec import Sweep
from raylottery.trainers.base import CurvePoint, Outcome, Scores, Start, Weights, digest


SWEEP = """
name: cohort
trainer:
  {kind: classifier, engine: compiled, dataset: mnist1d, model: mlp-8, length: 2ep,
   batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1, 2]
axes:
  prune.scope: [global, layerwise]
controls: [random-ticket]
resources: {cpus: 2}
"""
SHAPES = {"0.weight": (8, 40), "0.bias": (8,), "2.weight": (10, 8), "2.bias": (10,)}
NAMES = ("0.weight", "2.weight")


class Neighbour:
    """Trains nothing, repeatably."""

    threads = True
    device = "cpu"
    meet: ClassVar[Callable[[int, float], None]]
    """What a test has happen while a round is trained: it is told the seed and the density."""

    def __init__(self, study: Sweep, device: torch.device):
        self.study = study

    def prunable(self, *, biases: bool, exclude: Sequence[str] = ()) -> Prunable:
        return Prunable(names=NAMES, output=NAMES[-1:], convolutions=())

    def positions(self) -> Mapping[str, int]:
        return dict.fromkeys(NAMES, 1)

    def total_params(self) -> int:
        return sum(torch.Size(shape).numel() for shape in SHAPES.values())

    def initial(self, seed: int) -> Weights:
        chance = torch.Generator().manual_seed(seed)
        drawn = {name: torch.randn(shape, generator=chance) for name, shape in SHAPES.items()}
        return drawn | {"2.bias": torch.full((10,), float(seed))}

    def train(self, start: Start) -> Outcome:
        weights = dict(start.ticket.weights)
        type(self).meet(int(weights["2.bias"][0]), start.ticket.masks.density)
        chance = torch.Generator().manual_seed(start.data_seed % 2**62)
        for name in NAMES:
            update = torch.randn(SHAPES[name], generator=chance)
            weights[name] = torch.where(start.ticket.masks[name], weights[name] + update, 0.0)
        score = float(weights["0.weight"].mean())
        return Outcome(
            weights=weights,
            scores=Scores(
                metric="accuracy", score=score, score_at_stop=score, score_best=score,
                score_late=score, score_area=score, train_score=score, loss=1.0,
                steps=start.end - start.clock,
            ),
            curve=[CurvePoint(step=start.end, split="valid", metric="accuracy", value=score)],
            revived=0,
            seconds=0.001,
            snapshots=dict.fromkeys(start.keep, start.ticket.weights),
            digests={start.end: digest(weights)} if start.keep else {},
        )  # fmt: skip

    def close(self) -> None:
        pass
