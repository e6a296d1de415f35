"""From weights and masks to the flat arrays and the plan that the compiled functions work on.

A hidden neuron that no longer reaches the output, over surviving weights or a sum, is dropped:
nothing depends on it. One that no longer sees the input stays, as its bias is trained on. The
weights of dropped neurons keep their place at the end of the flat arrays, where weight decay alone
finds them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from raylottery.kernel import plan as column
from raylottery.kernel.plan import BLOCK, DENSE, SPARSE


PROTOCOL = 1
"""Raised whenever the same inputs would give other floats than before, as the table of switch
densities decides too."""


@dataclass(frozen=True)
class Layer:
    """A matrix of weights, (neurons, inputs), with a bias each, and what of them survives."""

    weight: np.ndarray
    bias: np.ndarray
    mask: np.ndarray | None = None
    bias_mask: np.ndarray | None = None
    residual: bool = False
    """Whether what its neurons give is added to its inputs, which are as many."""

    def kept(self) -> np.ndarray:
        """Which weights survive."""
        whole = np.ones(self.weight.shape, bool)
        return whole if self.mask is None else np.asarray(self.mask, bool)

    def kept_biases(self) -> np.ndarray:
        """Which biases survive."""
        whole = np.ones(self.bias.shape, bool)
        return whole if self.bias_mask is None else np.asarray(self.bias_mask, bool)


@dataclass(frozen=True)
class Place:
    """Where a parameter's survivors are: in its own array, flattened, and in the flat one."""

    shape: tuple[int, ...]
    own: np.ndarray
    flat: np.ndarray


@dataclass(frozen=True)
class Packed:
    """What the compiled functions need to know of a network, but its numbers."""

    plan: np.ndarray
    index: np.ndarray
    mask: np.ndarray
    ends: np.ndarray
    rows: int
    """Of activations."""
    weights: list[Place]
    biases: list[Place]


@cache
def switch_table() -> list[tuple[int, float]]:
    """For layers of up to so many inputs, the density from which the dense path is taken.

    The last line is for all wider ones too.
    """
    table = json.loads(Path(__file__).with_name("switch.json").read_text())
    assert table["protocol"] == PROTOCOL
    return [(inputs, density) for inputs, density in table["sparse_below"]]


def path_of(kept: np.ndarray) -> int:
    """The path of a layer, from its mask among the neurons that are left."""
    if not kept.size:
        return SPARSE
    table = switch_table()
    below = next((share for inputs, share in table if kept.shape[1] <= inputs), table[-1][1])
    return SPARSE if kept.mean() < below else DENSE


def reaching(layers: Sequence[Layer]) -> list[np.ndarray]:
    """The inputs and the neurons of each layer that something is made of.

    They ascend, but where a layer adds to its inputs: those that it adds to come first, in the
    order of its neurons.
    """
    alive = [np.arange(len(layers[-1].weight))]
    for layer in reversed(layers[1:]):
        neurons = alive[-1]
        inputs = np.flatnonzero(layer.kept()[neurons].any(axis=0))
        if layer.residual:
            inputs = np.append(neurons, np.setdiff1d(inputs, neurons))
        alive.append(inputs)
    alive.append(np.arange(layers[0].weight.shape[1]))
    return alive[::-1]


def pack(layers: Sequence[Layer], paths: Sequence[int] | None = None) -> Packed:
    """Lay a network out; `paths` overrides the table, for measuring it."""
    assert not any(layer.residual for layer in (layers[0], layers[-1]))  # no rectifiers around it
    alive = reaching(layers)
    plan = np.zeros((len(layers), column.COLUMNS), np.int64)
    index, mask = Growing(np.int32), Growing(np.float32)
    kept = [layer.kept() for layer in layers]
    kept_biases = [layer.kept_biases() for layer in layers]

    weights, end, row = [], 0, 0
    for at, line in enumerate(plan):
        inputs, neurons = alive[at], alive[at + 1]
        left = kept[at][np.ix_(neurons, inputs)]
        path = path_of(left) if paths is None else paths[at]
        line[column.PATH], line[column.WEIGHTS] = path, end
        line[column.INPUTS], line[column.OUTPUTS] = len(inputs), len(neurons)
        line[column.BEFORE] = row
        row += up(len(inputs))
        line[column.AFTER] = row
        line[column.SUM] = -1
        if layers[at].residual:
            row += up(len(neurons))
            line[column.SUM] = row
        lay = lay_densely if path == DENSE else lay_sparsely
        outs, ins, places, size = lay(left, line, index, mask)
        weights.append((neurons[outs] * kept[at].shape[1] + inputs[ins], end + places))
        end += up(size)
    ends = [end]

    biases = []
    for at, line in enumerate(plan):
        neurons = alive[at + 1]
        left = kept_biases[at][neurons]
        line[column.BIASES] = end
        line[column.BIAS_MASK] = -1 if left.all() else mask.add(left)
        biases.append((neurons[left], end + np.flatnonzero(left)))
        end += up(len(neurons))
    ends.append(end)

    for places, masks in ((weights, kept), (biases, kept_biases)):
        for at, whole in enumerate(masks):
            own = np.flatnonzero(of_others(whole, alive[at + 1]))
            before, flat = places[at]
            places[at] = np.append(before, own), np.append(flat, end + np.arange(len(own)))
            end += len(own)
        end = up(end)
        ends.append(end)
    return Packed(
        plan=plan,
        index=index.array(),
        mask=mask.array(),
        ends=np.array(ends, np.int64),
        rows=row + up(len(alive[-1])),
        weights=[Place(m.shape, *found) for m, found in zip(kept, weights, strict=True)],
        biases=[Place(m.shape, *found) for m, found in zip(kept_biases, biases, strict=True)],
    )


Laid = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Neurons and inputs of a layer's survivors, their places, and the room they take."""


def lay_densely(kept: np.ndarray, line: np.ndarray, index: Growing, mask: Growing) -> Laid:
    """As a matrix, filled up to whole tiles."""
    neurons, stride = up(len(kept), 4), up(kept.shape[1])
    outs, ins = np.nonzero(kept)
    places = outs * stride + ins
    line[column.STRIDE], line[column.MASK] = stride, -1
    if not kept.all():
        whole = np.zeros(neurons * stride, bool)
        whole[places] = True
        line[column.MASK] = mask.add(whole)
    return outs, ins, places, neurons * stride


def lay_sparsely(kept: np.ndarray, line: np.ndarray, index: Growing, mask: Growing) -> Laid:
    """As lists, in the order of the inputs."""
    fan_in, fan_out, outs, ins = listings(kept)
    line[column.FAN_IN], line[column.FAN_OUT] = index.add(fan_in), index.add(fan_out)
    return outs, ins, np.arange(len(outs)), len(outs)


def of_others(kept: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """What survives in all neurons but these."""
    rest = kept.copy()
    rest[neurons] = False
    return rest


def listings(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both listings of a layer's survivors, as `sparse` reads them; and which ones they are, in
    the order of their places."""
    by_input, fan_out = ordered(kept.sum(axis=0))
    place = np.full(kept.shape, -1)
    ins = np.repeat(by_input, fan_out)
    outs = np.concatenate([np.flatnonzero(kept[:, i]) for i in by_input] or [[]]).astype(int)
    place[outs, ins] = np.arange(len(outs))
    by_neuron, fan_in = ordered(kept.sum(axis=1))
    sources = np.concatenate([np.flatnonzero(kept[o]) for o in by_neuron] or [[]]).astype(int)
    places = place[np.repeat(by_neuron, fan_in), sources]
    first = np.concatenate([pairs(by_neuron, fan_in), pairs(sources, places)])
    second = np.concatenate([pairs(by_input, fan_out), outs])
    return first, second, outs, ins


def ordered(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which come first, by how many weights they have; and those numbers, in that order."""
    order = np.argsort(counts, kind="stable")
    return order, counts[order]


def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a, b], axis=1).ravel()


def up(size: int, block: int = BLOCK) -> int:
    """The next multiple."""
    return -(-size // block) * block


class Growing:
    """An array that parts are added to."""

    def __init__(self, dtype: type):
        self.dtype = dtype
        self.parts: list[np.ndarray] = []
        self.size = 0

    def add(self, part: np.ndarray) -> int:
        """Where the part begins."""
        begin = self.size
        whole = np.zeros(up(len(part)), self.dtype)
        whole[: len(part)] = part
        self.parts.append(whole)
        self.size += len(whole)
        return begin

    def array(self) -> np.ndarray:
        whole = aligned(max(BLOCK, self.size), self.dtype)
        whole[: self.size] = np.concatenate([*self.parts, np.zeros(0, self.dtype)])
        return whole


def aligned(size: int, dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin where a vector is loaded fastest."""
    item = np.dtype(dtype).itemsize
    room = np.zeros(size + 64 // item, dtype)
    begin = -room.ctypes.data % 64 // item
    return room[begin : begin + size]
