"""Linear mode connectivity: test error along the straight line between two trained networks.

The two are children of one ticket, trained with another order of the data each: the ticket itself
and its replicate. Where the error stays flat in between, what the ticket trains to does not depend
on the order of the data (Frankle et al. 2020). The dense networks of two seeds, which have nothing
in common, show what no connection looks like.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from raylottery.errors import UsageError
from raylottery.probes.finished import Finished, FinishedRounds
from raylottery.probes.networks import PerNetwork, threads
from raylottery.spec import Sweep
from raylottery.trainers.base import Weights, seeded
from raylottery.trainers.classifier import data
from raylottery.trainers.classifier.loop import CHUNK, Classifier


POINTS = 30
ALPHAS = tuple(point / (POINTS - 1) for point in range(POINTS))
"""Shares of the other network in a point of the chord: both ends, and evenly between."""

RECALIBRATED_ON = 5000
"""Training examples, at most, by which batch norms are estimated anew."""


class Chord(NamedTuple):
    """The line between two networks."""

    errors: tuple[float, ...]
    """Of the test set, at each of ALPHAS."""
    batch_norm: str

    @property
    def barrier(self) -> float:
        """The highest error, over the mean of both ends'."""
        return max(self.errors) - (self.errors[0] + self.errors[-1]) / 2


def rows(found: FinishedRounds) -> Iterator[dict[str, Any]]:
    if found.sweep.trainer.kind != "classifier":
        raise UsageError(
            f"connectivity measures test errors, and {found.sweep.name} trains agents, which have "
            f"none. Take another kind, such as overlap."
        )
    couples = list(pairs(found))
    if not couples:
        raise UsageError(
            f"connectivity compares a ticket with its replicate, or the dense networks of two "
            f"seeds, and {found.sweep.name} has neither. Add `controls: [replicate]`, or seeds, "
            f"and run it again."
        )
    trainers = PerNetwork(evaluator)
    chords: dict[tuple[str, str], Chord] = {}
    for one, name, other in found.each(couples, len(couples)):
        ends = one.round.key, other.round.key
        if ends not in chords:  # arms share dense networks
            weights = [found.ticket(end)["trained"] for end in (one, other)]
            chords[ends] = chord(trainers.of(one.study), *weights)
        line = chords[ends]
        for alpha, error in zip(ALPHAS, line.errors, strict=True):
            yield {
                **one.head(),
                "other": name,
                "rewind_weights": str(one.study.rewind.weights),
                "alpha": alpha,
                "error": error,
                "barrier": line.barrier,
                "batch_norm": line.batch_norm,
            }


def pairs(found: FinishedRounds) -> Iterator[tuple[Finished, str, Finished]]:
    """Each ticket with its replicates, and each dense network with that of the next seed."""
    replicates: dict[tuple[str, int], list[Finished]] = {}
    dense: dict[str, list[Finished]] = {}
    for finished in found.rounds:
        if finished.round.replicate:
            place = finished.lineage.id, finished.round.index
            replicates.setdefault(place, []).append(finished)
        elif finished.round.index == 0:
            dense.setdefault(finished.lineage.arm.id, []).append(finished)
    following = {one.lineage.id: other for line in dense.values() for one, other in pairwise(line)}
    for one in filter(lambda finished: finished.is_ticket, found.rounds):
        if one.round.index:
            for other in replicates.get((one.lineage.id, one.round.index), ()):
                yield one, f"replicate:{other.round.replicate}", other
        elif one.lineage.id in following:
            other = following[one.lineage.id]
            yield one, f"seed:{other.lineage.seed}", other


def evaluator(study: Sweep) -> Classifier:
    """What measures a network of a study as torch's engine does, uncompiled."""
    spec = study.trainer.model_copy(update={"engine": "torch", "compile": False})
    with seeded(0):
        trainer = Classifier(study.model_copy(update={"trainer": spec}), torch.device("cpu"))
        _ = trainer.net
    return trainer


def chord(trainer: Classifier, one: Weights, other: Weights) -> Chord:
    """The test errors between two networks of a study."""
    norms = estimating(trainer.net)
    errors = []
    with threads(trainer.spec):
        for alpha in ALPHAS:
            trainer.net.load_state_dict(between(one, other, alpha), strict=True)
            if norms:
                recalibrate(norms, trainer)
            errors.append(1 - trainer.measure(trainer.dataset.test)[1])
    return Chord(tuple(errors), "recalibrated" if norms else "none")


def between(one: Weights, other: Weights, alpha: float) -> dict[str, torch.Tensor]:
    """A point of the chord, bit-equal to the networks at its ends; counts are those of one."""
    return {
        name: torch.lerp(tensor, other[name], alpha) if tensor.is_floating_point() else tensor
        for name, tensor in one.items()
    }


def estimating(net: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a network that keep statistics of what they have seen."""
    return [
        layer
        for layer in net.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]


@torch.no_grad()
def recalibrate(norms: list[_BatchNorm], trainer: Classifier) -> None:
    """Estimate the statistics of batch norms on training data.

    Those of two networks say nothing of a network between them: its activations are others.
    """
    trainer.net.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    x = trainer.dataset.train.x
    size = min(CHUNK, len(x))
    for first in range(0, min(RECALIBRATED_ON, len(x) - size + 1), size):
        with trainer.autocast():
            trainer.net(data.prepared(x[first : first + size], trainer.spec, trainer.dataset))
