"""A network whose survivors are trained: packed once a round, nothing allocated in an update.

    network = Network.of([Layer(weight, bias, mask), ...], batch=64)
    room = network.room(64)
    room.inputs[:, :64] = ...                        # (inputs, batch)
    network.forward(room)
    loss = losses.cross_entropy(room.outputs, labels, 0.0, room.deltas)
    network.backward(room)
    network.step(adam(), lr)
    layers = network.layers()                        # dense arrays, +0.0 at pruned places

The methods are thin: compiled loops call what they call, with the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from raylottery.kernel import optimizers, passes
from raylottery.kernel import plan as column
from raylottery.kernel.optimizers import Rule
from raylottery.kernel.packing import Layer, Packed, Place, aligned, pack, up
from raylottery.kernel.simd import NARROW, WIDE


@dataclass(frozen=True)
class Room:
    """Where a network's forward and backward pass over a batch leave what they find."""

    lanes: int
    acts: np.ndarray
    deltas_flat: np.ndarray
    scratch: np.ndarray
    inputs: np.ndarray
    """View of the activations: (inputs, lanes)."""
    outputs: np.ndarray
    """View of the activations: (outputs, lanes)."""
    deltas: np.ndarray
    """Of the outputs: the loss differentiated by each, (outputs, lanes)."""


@dataclass
class Network:
    """The numbers of one network, and what an optimizer remembers of them."""

    packed: Packed
    values: np.ndarray
    grads: np.ndarray = field(init=False)
    first: np.ndarray = field(init=False)
    second: np.ndarray = field(init=False)
    updates: int = 0
    """Made so far."""

    def __post_init__(self):
        self.grads, self.first, self.second = (aligned(len(self.values)) for _ in range(3))

    @classmethod
    def of(cls, layers: Sequence[Layer], *, paths: Sequence[int] | None = None) -> Network:
        """Pack layers; each but the last is followed by a rectifier."""
        packed = pack(layers, paths)
        values = aligned(int(packed.ends[-1]))
        network = cls(packed, values)
        network.fill(values, [(layer.weight, layer.bias) for layer in layers])
        return network

    def room(self, batch: int) -> Room:
        """Room for a batch of this size."""
        plan, lanes = self.packed.plan, lanes_for(batch)
        acts, deltas = (aligned(self.packed.rows * lanes) for _ in range(2))
        widest = int(plan[:, column.STRIDE].max(initial=0))
        inputs, outputs = int(plan[0, column.INPUTS]), int(plan[-1, column.OUTPUTS])
        return Room(
            lanes=lanes,
            acts=acts,
            deltas_flat=deltas,
            scratch=aligned(max(NARROW * NARROW, widest * lanes)),
            inputs=acts.reshape(-1, lanes)[:inputs],
            outputs=acts.reshape(-1, lanes)[plan[-1, column.AFTER] :][:outputs],
            deltas=deltas.reshape(-1, lanes)[plan[-1, column.AFTER] :][:outputs],
        )

    def forward(self, room: Room) -> np.ndarray:
        """The outputs, given the room's inputs."""
        passes.forward(self.packed.plan, self.packed.index, self.values, room.acts, room.lanes)
        return room.outputs

    def backward(self, room: Room) -> None:
        """The gradients, given the deltas of the outputs."""
        packed = self.packed
        passes.backward(
            *(packed.plan, packed.index, packed.mask, self.values, self.grads),
            *(room.acts, room.deltas_flat, room.scratch, room.lanes),
        )

    def step(self, rule: Rule, lr: float) -> float:
        """Move the weights; the norm of the gradients, if the rule clips it."""
        self.updates += 1
        return optimizers.step(
            *(self.values, self.grads, self.first, self.second, self.packed.ends),
            *(rule, lr, self.updates),
        )

    def layers(self, flat: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases as whole arrays, +0.0 where they are pruned; or what else lies like
        them, such as moments."""
        flat = self.values if flat is None else flat
        places = zip(self.packed.weights, self.packed.biases, strict=True)
        return [(unpacked(flat, weight), unpacked(flat, bias)) for weight, bias in places]

    def fill(self, flat: np.ndarray, layers: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """The other way round: survivors alone are taken of whole arrays."""
        for arrays, *places in zip(layers, self.packed.weights, self.packed.biases, strict=True):
            for array, place in zip(arrays, places, strict=True):
                flat[place.flat] = array.ravel()[place.own]

    def strays(self) -> int:
        """How many numbers besides the survivors are not zero, as all have to be."""
        return int(np.count_nonzero(self.values[self.empty]))

    @cached_property
    def empty(self) -> np.ndarray:
        """Where no survivor is: at pruned weights, and at what fills tiles up."""
        none = np.ones(len(self.values), bool)
        for place in self.packed.weights + self.packed.biases:
            none[place.flat] = False
        return np.flatnonzero(none)


def unpacked(flat: np.ndarray, place: Place) -> np.ndarray:
    whole = np.zeros(place.shape, flat.dtype)
    whole.ravel()[place.own] = flat[place.flat]
    return whole


def lanes_for(batch: int) -> int:
    """Lanes that hold a batch: whole wide tiles, and at the end a few narrow ones at most."""
    rest = up(batch % WIDE, NARROW)
    return batch // WIDE * WIDE + (rest if rest <= 2 * NARROW else WIDE)
