"""Layers whose weights are a whole matrix: products in tiles of four rows by 64 or 16 columns.

Each sum runs over its terms in order and in one lane, so a result is the same for every shape of
tile. The arrays are filled up with zeros to whole tiles.
"""

from __future__ import annotations

import llvmlite.binding as llvm

from raylottery.kernel.compiled import inner
from raylottery.kernel.plan import (
    AFTER,
    BEFORE,
    BIASES,
    BLOCK,
    INPUTS,
    MASK,
    OUTPUTS,
    STRIDE,
    WEIGHTS,
)
from raylottery.kernel.simd import (
    NARROW,
    WIDE,
    fill,
    fma,
    load,
    narrow,
    peek,
    rectified,
    store,
    transposed,
    where_positive,
    wide,
)


FITS_WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
"""Whether a wide tile fits in the registers: 32 of 16 floats. The result is the same."""


@inner
def tile(a, at, row, column, b, to, stride, depth, s0, s1, s2, s3):
    """Four rows of a product, added to what is given for each."""
    for _ in range(depth):
        x = load(b, to, s0)
        s0 = fma(fill(peek(a, at), s0), x, s0)
        s1 = fma(fill(peek(a, at + row), s0), x, s1)
        s2 = fma(fill(peek(a, at + 2 * row), s0), x, s2)
        s3 = fma(fill(peek(a, at + 3 * row), s0), x, s3)
        at += column
        to += stride
    return s0, s1, s2, s3


@inner
def forward_columns(layer, values, acts, lanes, lane, rectify, like):
    """All neurons for the examples of one tile."""
    stride, inputs, weights = layer[STRIDE], layer[INPUTS], layer[WEIGHTS]
    before = layer[BEFORE] * lanes + lane
    for neuron in range(0, layer[OUTPUTS], 4):
        bias = layer[BIASES] + neuron
        s0, s1, s2, s3 = tile(
            *(values, weights + neuron * stride, stride, 1, acts, before, lanes, inputs),
            fill(peek(values, bias), like),
            fill(peek(values, bias + 1), like),
            fill(peek(values, bias + 2), like),
            fill(peek(values, bias + 3), like),
        )
        if rectify:
            s0, s1, s2, s3 = rectified(s0), rectified(s1), rectified(s2), rectified(s3)
        after = (layer[AFTER] + neuron) * lanes + lane
        store(acts, after, s0)
        store(acts, after + lanes, s1)
        store(acts, after + 2 * lanes, s2)
        store(acts, after + 3 * lanes, s3)


@inner
def backward_columns(layer, values, acts, deltas, lanes, lane, like):
    """What the neurons before a layer have to do with the loss, for the examples of one tile."""
    stride, outputs = layer[STRIDE], layer[OUTPUTS]
    after = layer[AFTER] * lanes + lane
    for neuron in range(0, layer[INPUTS], 4):
        s0, s1, s2, s3 = tile(
            *(values, layer[WEIGHTS] + neuron, 1, stride),
            *(deltas, after, lanes, outputs, like, like, like, like),
        )
        before = (layer[BEFORE] + neuron) * lanes + lane
        store(deltas, before, where_positive(load(acts, before, like), s0))
        before += lanes
        store(deltas, before, where_positive(load(acts, before, like), s1))
        before += lanes
        store(deltas, before, where_positive(load(acts, before, like), s2))
        before += lanes
        store(deltas, before, where_positive(load(acts, before, like), s3))


@inner
def gradient_columns(layer, grads, mask, turned, deltas, lanes, column, like):
    """The gradients of some columns of the weights; those of pruned weights are zero."""
    stride = layer[STRIDE]
    for neuron in range(0, layer[OUTPUTS], 4):
        s0, s1, s2, s3 = tile(
            *(deltas, (layer[AFTER] + neuron) * lanes, lanes, 1),
            *(turned, column, stride, lanes, like, like, like, like),
        )
        at = neuron * stride + column
        if layer[MASK] >= 0:
            kept = layer[MASK] + at
            s0 = where_positive(load(mask, kept, like), s0)
            s1 = where_positive(load(mask, kept + stride, like), s1)
            s2 = where_positive(load(mask, kept + 2 * stride, like), s2)
            s3 = where_positive(load(mask, kept + 3 * stride, like), s3)
        at += layer[WEIGHTS]
        store(grads, at, s0)
        store(grads, at + stride, s1)
        store(grads, at + 2 * stride, s2)
        store(grads, at + 3 * stride, s3)


@inner
def forward(layer, values, acts, lanes, rectify):
    wides = lanes // WIDE * WIDE if FITS_WIDE else 0
    for lane in range(0, wides, WIDE):
        forward_columns(layer, values, acts, lanes, lane, rectify, wide())
    for lane in range(wides, lanes, NARROW):
        forward_columns(layer, values, acts, lanes, lane, rectify, narrow())


@inner
def backward(layer, values, grads, mask, acts, deltas, turned, lanes, first):
    stride = layer[STRIDE]
    for row in range(0, stride, BLOCK):
        for lane in range(0, lanes, BLOCK):
            at = (layer[BEFORE] + row) * lanes + lane
            transposed(acts, at, lanes, turned, lane * stride + row, stride)
    wides = stride // WIDE * WIDE if FITS_WIDE else 0
    for column in range(0, wides, WIDE):
        gradient_columns(layer, grads, mask, turned, deltas, lanes, column, wide())
    for column in range(wides, stride, NARROW):
        gradient_columns(layer, grads, mask, turned, deltas, lanes, column, narrow())
    if not first:
        wides = lanes // WIDE * WIDE if FITS_WIDE else 0
        for lane in range(0, wides, WIDE):
            backward_columns(layer, values, acts, deltas, lanes, lane, wide())
        for lane in range(wides, lanes, NARROW):
            backward_columns(layer, values, acts, deltas, lanes, lane, narrow())
