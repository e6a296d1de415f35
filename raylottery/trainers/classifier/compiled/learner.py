"""A network of compiled code on its way through one training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raylottery.kernel import Layer, Network, Rule, adam, optimizers, passes, sgd
from raylottery.kernel.packing import aligned
from raylottery.kernel.simd import NARROW
from raylottery.sizes import dense
from raylottery.spec import ClassifierTrainer
from raylottery.trainers.base import Start, Ticket, Weights
from raylottery.trainers.classifier.compiled import steps
from raylottery.trainers.classifier.compiled.examples import Part
from raylottery.trainers.classifier.rounds import Order
from raylottery.trainers.classifier.schedule import Schedule


TILE = 128
"""Examples that are measured at a time."""


class Learner:
    """The survivors of a ticket, what the optimizer remembers of them, and room to train in."""

    def __init__(self, spec: ClassifierTrainer, parts: Mapping[str, Part], start: Start):
        self.parts = parts
        self.clock = start.clock
        self.schedule = Schedule(spec, start.length)
        self.smoothing = spec.label_smoothing
        self.rule = rule(spec)
        self.order = Order(spec, start.data_seed)
        self.epoch = -1
        self.chosen = np.empty(0, np.int64)
        shape = dense.classifier(spec)
        assert shape is not None  # the sweep file's model takes no other
        self.names = tuple(shape.shapes)
        self.network = Network.of(layers(self.names, start.ticket, residual=shape.residual))
        net, packed = self.network, self.network.packed
        self.wires = steps.Wires(packed.plan, packed.index, packed.mask, packed.ends)
        self.numbers = steps.Numbers(net.values, net.grads, net.first, net.second)
        width = parts["train"].width
        self.desk = desk(net, spec.batch_size, width)
        self.measuring = desk(net, TILE, width)
        self.forward = passes.forward.handle
        self.moving = passes.backward.handle, optimizers.step.handle
        self.losses: list[float] = []
        self.revived = 0

    def advance(self, step: int, goal: int, *, auditing: bool) -> None:
        while step < goal:
            epoch, batch = divmod(step, self.order.per_epoch)
            if epoch != self.epoch:
                self.epoch, self.chosen = epoch, self.order.of(epoch).numpy()
            end = min(goal, step + self.order.per_epoch - batch)
            rates = np.array([self.schedule.lr(at) for at in range(step, end)])
            found = np.empty(len(rates))
            steps.learn(
                *(self.forward, *self.moving),
                *(self.wires, self.numbers, self.desk, self.parts["train"], self.chosen, batch),
                *(self.rule, rates, step - self.clock, self.smoothing, found),
            )
            self.losses += found.tolist()
            step = end
        if auditing:
            self.revived += self.network.strays()

    def mean_loss(self) -> tuple[float, int]:
        losses, self.losses = self.losses, []
        return math.fsum(losses) / len(losses), len(losses)

    def measure(self, split: str) -> tuple[float, float]:
        part = self.parts[split]
        order = np.arange(len(part.y))
        return steps.measure(self.forward, self.wires, self.numbers, self.measuring, part, order)

    def weights(self) -> Weights:
        return self.whole(self.network.values)

    def load(self, weights: Weights) -> None:
        self.fill(self.network.values, weights)

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        return {
            "net": self.weights(),
            "losses": {"since": torch.tensor(self.losses, dtype=torch.float64)},
            "moments-first": self.whole(self.network.first),
            "moments-second": self.whole(self.network.second),
        }

    def take(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.load(state["net"])
        self.fill(self.network.first, state["moments-first"])
        self.fill(self.network.second, state["moments-second"])
        self.losses = state["losses"]["since"].tolist()

    def whole(self, flat: np.ndarray) -> Weights:
        """What lies as the weights do, by their names."""
        arrays = sum(self.network.layers(flat), ())
        return dict(zip(self.names, map(torch.from_numpy, arrays), strict=True))

    def fill(self, flat: np.ndarray, weights: Weights) -> None:
        """The other way round."""
        arrays = [weights[name].numpy() for name in self.names]
        self.network.fill(flat, zip(arrays[::2], arrays[1::2], strict=True))


def layers(names: Sequence[str], ticket: Ticket, *, residual: bool) -> list[Layer]:
    """A ticket's, whose weights and biases have these names in turn."""
    arrays = [ticket.weights[name].numpy() for name in names]
    masks = [
        mask.numpy() if (mask := ticket.masks.get(name)) is not None else None for name in names
    ]
    last = len(names) // 2 - 1
    return [
        Layer(*layer, residual=residual and 0 < at < last)
        for at, layer in enumerate(
            zip(arrays[::2], arrays[1::2], masks[::2], masks[1::2], strict=True)
        )
    ]


def rule(spec: ClassifierTrainer) -> Rule:
    """The optimizer, but its rate."""
    decay: dict[str, Any] = {"decay": spec.weight_decay, "decay_biases": spec.decay_all}
    if spec.optimizer == "sgd":
        return sgd(momentum=spec.momentum, nesterov=spec.nesterov, **decay)
    return adam(decoupled=spec.optimizer == "adamw", **decay)


def desk(network: Network, batch: int, width: int) -> steps.Desk:
    """Room for batches of this size."""
    room = network.room(batch)
    return steps.Desk(
        *(room.acts, room.deltas_flat, room.scratch, room.outputs, room.deltas),
        labels=np.zeros(batch, np.int64),
        block=aligned(NARROW * width),
    )
