"""One network, forward and backward, layer by layer, each on the path that its plan says.

A compiled loop had better take these functions' handles as arguments, of the types
`types.FunctionType(FORWARD)` and so on: called by their names they would be compiled once more,
as a part of it, which takes seconds.
"""

from __future__ import annotations

from numba import types

from raylottery.kernel import dense, sparse
from raylottery.kernel.compiled import entry, inner
from raylottery.kernel.plan import (
    AFTER,
    BEFORE,
    BIAS_MASK,
    BIASES,
    BLOCK,
    DENSE,
    OUTPUTS,
    PATH,
    SUM,
)
from raylottery.kernel.simd import (
    NARROW,
    WIDE,
    add,
    folded,
    load,
    narrow,
    store,
    sums,
    where_positive,
    wide,
)


FLOATS = types.Array(types.float32, 1, "C")
INDEX = types.Array(types.int32, 1, "C")
PLAN = types.Array(types.int64, 2, "C")
FORWARD = types.void(PLAN, INDEX, FLOATS, FLOATS, types.int64)
BACKWARD = types.void(PLAN, INDEX, *[FLOATS] * 6, types.int64)


@entry(FORWARD, handed=True)
def forward(plan, index, values, acts, lanes):
    """Fill the activations of all neurons, given those of the inputs."""
    last = len(plan) - 1
    for at in range(last + 1):
        layer = plan[at]
        if layer[PATH] == DENSE:
            dense.forward(layer, values, acts, lanes, at < last)
        else:
            sparse.forward(layer, index, values, acts, lanes, at < last)
        if layer[SUM] >= 0:
            add_up(layer, acts, lanes)


@entry(BACKWARD, handed=True)
def backward(plan, index, mask, values, grads, acts, deltas, scratch, lanes):
    """Fill the gradients, given the activations and the deltas of the outputs.

    Those of examples that are there to fill a tile have to be zero. Where a neuron is at zero, its
    delta is set to zero, as its rectifier asks; and so is a sum's, as what adds up to zero is zero
    in each part.
    """
    for at in range(len(plan) - 1, -1, -1):
        layer = plan[at]
        if layer[SUM] >= 0:
            hand_to_neurons(layer, acts, deltas, lanes)
        bias_gradients(layer, mask, grads, deltas, scratch, lanes)
        if layer[PATH] == DENSE:
            dense.backward(layer, values, grads, mask, acts, deltas, scratch, lanes, at == 0)
        else:
            sparse.backward(layer, index, values, grads, acts, deltas, scratch, lanes, at == 0)
        if layer[SUM] >= 0:
            hand_to_inputs(layer, acts, deltas, lanes)


@inner
def add_up(layer, acts, lanes):
    """The sums of a layer's neurons and its first inputs."""
    before, after, total = layer[BEFORE] * lanes, layer[AFTER] * lanes, layer[SUM] * lanes
    for place in range(0, layer[OUTPUTS] * lanes, NARROW):
        x = load(acts, before + place, narrow())
        store(acts, total + place, add(x, load(acts, after + place, x)))


@inner
def hand_to_neurons(layer, acts, deltas, lanes):
    """Give neurons the deltas of the sums that they went into."""
    after, total = layer[AFTER] * lanes, layer[SUM] * lanes
    for place in range(0, layer[OUTPUTS] * lanes, NARROW):
        x = load(acts, after + place, narrow())
        store(deltas, after + place, where_positive(x, load(deltas, total + place, x)))


@inner
def hand_to_inputs(layer, acts, deltas, lanes):
    """The same for the inputs, on top of what they have from the layer's weights."""
    before, total = layer[BEFORE] * lanes, layer[SUM] * lanes
    for place in range(0, layer[OUTPUTS] * lanes, NARROW):
        x = load(acts, before + place, narrow())
        own = where_positive(x, load(deltas, total + place, x))
        store(deltas, before + place, add(load(deltas, before + place, x), own))


@inner
def bias_gradients(layer, mask, grads, deltas, scratch, lanes):
    """Sums of deltas over the batch, of sixteen neurons at a time."""
    biases, kept, after = layer[BIASES], layer[BIAS_MASK], layer[AFTER]
    for neuron in range(0, layer[OUTPUTS], BLOCK):
        for row in range(BLOCK):
            delta = (after + neuron + row) * lanes
            store(scratch, row * BLOCK, over_lanes(deltas, delta, lanes))
        found = sums(scratch, 0)
        if kept >= 0:
            found = where_positive(load(mask, kept + neuron, found), found)
        store(grads, biases + neuron, found)


@inner
def over_lanes(deltas, at, lanes):
    total = narrow()
    lane = 0
    while lane + WIDE <= lanes:
        total = add(total, folded(load(deltas, at + lane, wide())))
        lane += WIDE
    while lane < lanes:
        total = add(total, load(deltas, at + lane, total))
        lane += NARROW
    return total
