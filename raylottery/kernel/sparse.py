"""Layers that hold their surviving weights alone.

Each surviving weight is multiplied with a whole batch. The index lists them twice: by neuron for
the forward pass, and by input, the order in which they lie in memory, for the backward pass, which
needs a neuron's deltas both for the gradient of a weight and for the delta of its input. Neurons
with equally many weights are listed one after the other, so that the processor guesses where each
list ends.

A listing begins with the neurons, as pairs of which one it is and how many weights it has. After
them come the weights: by neuron as pairs of an input and the place of the weight, by input as
neurons alone.

The sums of the forward pass run in the order of the dense path: they are equal to the bit.
"""

from __future__ import annotations

from raylottery.kernel.compiled import inner
from raylottery.kernel.plan import AFTER, BEFORE, BIASES, FAN_IN, FAN_OUT, INPUTS, OUTPUTS, WEIGHTS
from raylottery.kernel.simd import (
    NARROW,
    WIDE,
    add,
    dot,
    fill,
    fma,
    load,
    narrow,
    peek,
    rectified,
    store,
    sums,
    where_positive,
    wide,
)


@inner
def forward_columns(layer, index, values, acts, lanes, lane, rectify, like):
    """All neurons for the examples of one tile."""
    before = layer[BEFORE] * lanes + lane
    after = layer[AFTER] * lanes + lane
    weights, biases = layer[WEIGHTS], layer[BIASES]
    listed, outputs = layer[FAN_IN], layer[OUTPUTS]
    survivor = listed + 2 * outputs
    for place in range(outputs):
        neuron = peek(index, listed + 2 * place)
        end = survivor + 2 * peek(index, listed + 2 * place + 1)
        total = fill(peek(values, biases + neuron), like)
        while survivor < end:
            x = load(acts, before + peek(index, survivor) * lanes, like)
            weight = peek(values, weights + peek(index, survivor + 1))
            total = fma(fill(weight, like), x, total)
            survivor += 2
        if rectify:
            total = rectified(total)
        store(acts, after + neuron * lanes, total)


@inner
def backward_columns(layer, index, values, grads, acts, deltas, partial, lanes, lane, first, like):
    """The gradients from one tile, and what the inputs have to do with the loss."""
    before = layer[BEFORE] * lanes + lane
    after = layer[AFTER] * lanes + lane
    weights, listed, inputs = layer[WEIGHTS], layer[FAN_OUT], layer[INPUTS]
    neurons = listed + 2 * inputs
    survivor = 0
    for place in range(inputs):
        at = before + peek(index, listed + 2 * place) * lanes
        end = survivor + peek(index, listed + 2 * place + 1)
        x = load(acts, at, like)
        total = like
        while survivor < end:
            delta = load(deltas, after + peek(index, neurons + survivor) * lanes, like)
            if not first:
                weight = peek(values, weights + survivor)
                total = fma(fill(weight, like), delta, total)
            store(partial, survivor % NARROW * NARROW, dot(x, delta))
            survivor += 1
            if survivor % NARROW == 0:
                settle(grads, weights + survivor - NARROW, partial, lane)
        if not first:
            store(deltas, at, where_positive(x, total))
    if survivor % NARROW:
        for rest in range(survivor % NARROW, NARROW):
            store(partial, rest * NARROW, narrow())
        settle(grads, weights + survivor // NARROW * NARROW, partial, lane)


@inner
def settle(grads, at, partial, lane):
    """Put sixteen gradients in their place, on top of those from the tiles before."""
    found = sums(partial, 0)
    if lane:
        found = add(load(grads, at, found), found)
    store(grads, at, found)


@inner
def forward(layer, index, values, acts, lanes, rectify):
    wides = lanes // WIDE * WIDE
    for lane in range(0, wides, WIDE):
        forward_columns(layer, index, values, acts, lanes, lane, rectify, wide())
    for lane in range(wides, lanes, NARROW):
        forward_columns(layer, index, values, acts, lanes, lane, rectify, narrow())


@inner
def backward(layer, index, values, grads, acts, deltas, partial, lanes, first):
    wides = lanes // WIDE * WIDE
    for lane in range(0, wides, WIDE):
        backward_columns(
            layer, index, values, grads, acts, deltas, partial, lanes, lane, first, wide()
        )
    for lane in range(wides, lanes, NARROW):
        backward_columns(
            layer, index, values, grads, acts, deltas, partial, lanes, lane, first, narrow()
        )
