"""Losses: the deltas of the outputs, and the mean over the batch.

Outputs and deltas are tables of (neurons, lanes); the batch is as long as what it is compared
with. Lanes past it are there to fill a tile: their deltas are set to zero.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from raylottery.kernel.compiled import entry, inner
from raylottery.kernel.simd import (
    NARROW,
    add,
    div,
    exponential,
    fill,
    larger,
    load,
    mul,
    narrow,
    pick,
    store,
    sub,
)


TABLE = types.Array(types.float32, 2, "C")
LABELS = types.Array(types.int64, 1, "C")


@entry(types.float64(TABLE, LABELS, types.float64, TABLE))
def cross_entropy(logits, labels, smoothing, deltas):
    """Of classes, with a share of each label spread over all of them."""
    classes, lanes = logits.shape
    batch = len(labels)
    like = narrow()
    spread = fill(np.float32(smoothing / classes), like)
    share = fill(np.float32(1 / batch), like)
    loss = 0.0
    for lane in range(0, batch, NARROW):
        highest = load(logits, lane, like)
        for c in range(1, classes):
            highest = larger(highest, load(logits, c * lanes + lane, like))
        total, below = like, like
        for c in range(classes):
            at = c * lanes + lane
            under = sub(load(logits, at, like), highest)
            part = exponential(under)
            store(deltas, at, part)
            total, below = add(total, part), add(below, under)
        for c in range(classes):
            at = c * lanes + lane
            store(deltas, at, mul(sub(div(load(deltas, at, like), total), spread), share))
        for b in range(min(NARROW, batch - lane)):
            label = labels[lane + b]
            own = np.float64(logits[label, lane + b]) - pick(highest, b)
            loss += math.log(np.float64(pick(total, b)))
            loss -= (1 - smoothing) * own + smoothing / classes * pick(below, b)
            others = np.float32(0)
            for c in range(classes):
                if c != label:
                    others += deltas[c, lane + b]
            deltas[label, lane + b] = -others  # together they are zero
    deltas[:, batch:] = 0
    return loss / batch


@inner
def chosen_values(q, actions, wanted, weights, squared, deltas, errors):
    """Of the values of the actions that were taken, squared or Huber's; fills their errors."""
    batch = len(actions)
    deltas[:] = 0
    loss = 0.0
    for b in range(batch):
        error = q[actions[b], b] - wanted[b]
        errors[b] = error
        size = abs(error)
        share = weights[b] / np.float32(batch)
        if squared:
            loss += weights[b] * error * error
            slope = np.float32(2) * error
        elif size < np.float32(1):
            loss += np.float32(0.5) * weights[b] * error * error
            slope = error
        else:
            loss += weights[b] * (size - np.float32(0.5))
            slope = np.float32(math.copysign(np.float32(1), error))
        deltas[actions[b], b] = share * slope
    return loss / batch


@inner
def bootstrapped(choosing, rating, rewards, discounts, wanted):
    """Rewards, and the discounted value that one network gives the action another one chooses."""
    for b in range(len(rewards)):
        best = 0
        for action in range(1, len(choosing)):
            if choosing[action, b] > choosing[best, b]:
                best = action
        wanted[b] = rewards[b] + discounts[b] * rating[best, b]


@entry(types.void(TABLE, TABLE))
def dueling_values(streams, q):
    """Values of actions from the two streams of a dueling network: value first, advantages."""
    actions = len(q)
    for b in range(q.shape[1]):
        mean = np.float32(0)
        for action in range(actions):
            mean += streams[action + 1, b]
        mean /= np.float32(actions)
        for action in range(actions):
            q[action, b] = streams[0, b] + (streams[action + 1, b] - mean)


@inner
def dueling_deltas(deltas, streams):
    """Deltas of the two streams from those of the values of actions."""
    actions = len(deltas)
    for b in range(deltas.shape[1]):
        total = np.float32(0)
        for action in range(actions):
            total += deltas[action, b]
        streams[0, b] = total
        mean = total / np.float32(actions)
        for action in range(actions):
            streams[action + 1, b] = deltas[action, b] - mean
