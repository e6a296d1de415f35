"""What is compiled: a stretch of updates, and the measuring of a part of the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from raylottery.kernel import losses, optimizers, passes
from raylottery.kernel.compiled import entry, inner
from raylottery.kernel.losses import LABELS, TABLE
from raylottery.kernel.optimizers import ENDS, RULE
from raylottery.kernel.passes import FLOATS, INDEX, PLAN
from raylottery.kernel.simd import NARROW, load, narrow, store, transposed
from raylottery.trainers.classifier.compiled.examples import Part


class Wires(NamedTuple):
    """How a network is laid out: what `Packed` says of it."""

    plan: np.ndarray
    index: np.ndarray
    mask: np.ndarray
    ends: np.ndarray


class Numbers(NamedTuple):
    """What changes as it learns."""

    values: np.ndarray
    grads: np.ndarray
    first: np.ndarray
    second: np.ndarray


class Desk(NamedTuple):
    """Room for a batch: what `Room` says of it, its labels, and sixteen examples as they come."""

    acts: np.ndarray
    deltas_flat: np.ndarray
    scratch: np.ndarray
    outputs: np.ndarray
    deltas: np.ndarray
    labels: np.ndarray
    block: np.ndarray


FUNCTIONS = [types.FunctionType(s) for s in (passes.FORWARD, passes.BACKWARD, optimizers.STEP)]
PART = types.NamedTuple((FLOATS, LABELS, types.int64), Part)
WIRES = types.NamedTuple((PLAN, INDEX, FLOATS, ENDS), Wires)
NUMBERS = types.NamedUniTuple(FLOATS, 4, Numbers)
DESK = types.NamedTuple((*[FLOATS] * 3, TABLE, TABLE, LABELS, FLOATS), Desk)
DOUBLES = types.Array(types.float64, 1, "C")


@inner
def gather(part, order, begin, batch, desk):
    """Lay a batch out as the kernel reads it, one example beside the other."""
    lanes, like = desk.outputs.shape[1], narrow()
    for at in range(batch):
        desk.labels[at] = part.y[order[begin + at]]
    for lane in range(0, batch, NARROW):
        for row in range(NARROW):
            # What fills the last block up counts for nothing.
            source = order[begin + min(lane + row, batch - 1)] * part.width
            for column in range(0, part.width, NARROW):
                store(desk.block, row * part.width + column, load(part.x, source + column, like))
        for column in range(0, part.width, NARROW):
            transposed(desk.block, column, part.width, desk.acts, column * lanes + lane, lanes)


@entry(
    types.void(*FUNCTIONS, WIRES, NUMBERS, DESK, PART, LABELS, types.int64, RULE, DOUBLES,
               types.int64, types.float64, DOUBLES)
)  # fmt: skip
def learn(
    forward, backward, step, wires, numbers, desk, part, order, begin, rule, rates, made,
    smoothing, found
):  # fmt: skip
    """Make an update for each rate, on one batch after the other, and note its loss.

    Args:
        order: the examples of an epoch; its batch of `begin` is the first.
        made: updates before these.
    """
    plan, index, mask, ends = wires
    values, grads, first, second = numbers
    lanes, batch = desk.outputs.shape[1], len(desk.labels)
    for at in range(len(rates)):
        gather(part, order, (begin + at) * batch, batch, desk)
        forward(plan, index, values, desk.acts, lanes)
        found[at] = losses.cross_entropy(desk.outputs, desk.labels, smoothing, desk.deltas)
        backward(
            *(plan, index, mask, values, grads, desk.acts, desk.deltas_flat, desk.scratch, lanes)
        )
        step(values, grads, first, second, ends, rule, rates[at], made + at + 1)


@entry(types.UniTuple(types.float64, 2)(FUNCTIONS[0], WIRES, NUMBERS, DESK, PART, LABELS))
def measure(forward, wires, numbers, desk, part, order):
    """The mean loss over a part of the data, and the share that is classified rightly."""
    loss, right = 0.0, 0
    tile, lanes = len(desk.labels), desk.outputs.shape[1]
    for begin in range(0, len(order), tile):
        count = min(tile, len(order) - begin)
        gather(part, order, begin, count, desk)
        forward(wires.plan, wires.index, numbers.values, desk.acts, lanes)
        labels = desk.labels[:count]
        loss += count * losses.cross_entropy(desk.outputs, labels, 0.0, desk.deltas)
        for at in range(count):
            best = 0
            for label in range(1, len(desk.outputs)):
                if desk.outputs[label, at] > desk.outputs[best, at]:
                    best = label
            right += best == labels[at]
    return loss / len(order), right / len(order)
