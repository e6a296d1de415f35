"""Losses: the deltas of the outputs, and the mean over the batch.

Outputs and deltas are tables of (neurons, lanes); the batch is as long as what it is compared
with. Lanes past it are there to fill a tile: their deltas are set to zero.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from raylottery.kernel.compiled import entry
from raylottery.kernel.passes import FLOATS


TABLE = types.Array(types.float32, 2, "C")
LABELS = types.Array(types.int64, 1, "C")


@entry(types.float64(TABLE, LABELS, types.float64, TABLE))
def cross_entropy(logits, labels, smoothing, deltas):
    """Of classes, with a share of each label spread over all of them."""
    classes, batch = len(logits), len(labels)
    spread = smoothing / classes
    deltas[:, batch:] = 0
    loss = 0.0
    for b in range(batch):
        highest = logits[0, b]
        for c in range(1, classes):
            highest = max(highest, logits[c, b])
        exponentials = 0.0
        for c in range(classes):
            exponentials += math.exp(np.float64(logits[c, b] - highest))
        level = highest + math.log(exponentials)
        for c in range(classes):
            wanted = spread + (1 - smoothing if c == labels[b] else 0.0)
            below = np.float64(logits[c, b]) - level
            if wanted > 0:
                loss -= wanted * below
            deltas[c, b] = np.float32((math.exp(below) - wanted) / batch)
    return loss / batch


@entry(types.float64(TABLE, LABELS, FLOATS, FLOATS, types.boolean, TABLE, FLOATS))
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


@entry(types.void(TABLE, TABLE, FLOATS, FLOATS, FLOATS))
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


@entry(types.void(TABLE, TABLE))
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
