"""What moves the weights: Adam, AdamW and SGD as torch has them, over survivors alone.

All run over a stretch of the flat arrays. A weight that no gradient ever reaches, as its neuron
does not reach the output, is moved by weight decay alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import types

from raylottery.kernel.compiled import entry, inner
from raylottery.kernel.passes import FLOATS
from raylottery.kernel.simd import (
    NARROW,
    add,
    div,
    fill,
    fma,
    load,
    mul,
    narrow,
    root,
    store,
    sub,
    total,
)


class Rule(NamedTuple):
    """How an optimizer moves weights: by Adam, or by SGD where beta2 is zero."""

    beta1: float = 0.9
    """Adam: of the mean gradient. SGD: the momentum."""
    beta2: float = 0.999
    """Adam: of the mean square."""
    epsilon: float = 1e-8
    decay: float = 0.0
    """Weight decay."""
    bias_decay: float = 0.0
    """Of biases."""
    decoupled: bool = False
    """Whether weights decay by themselves, as AdamW has it, or through the gradient."""
    nesterov: bool = False
    clip: float = 0.0
    """Largest norm of all gradients together; 0 sets no bound."""


def adam(
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    decay: float = 0.0,
    decay_biases: bool = True,
    decoupled: bool = False,
    clip: float = 0.0,
) -> Rule:
    """Adam, or AdamW where the decay is decoupled."""
    assert betas[1] > 0  # or it would be taken for SGD
    biases = decay if decay_biases else 0.0
    return Rule(*map(float, (*betas, epsilon, decay, biases)), decoupled, False, float(clip))


def sgd(
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    decay_biases: bool = True,
    clip: float = 0.0,
) -> Rule:
    """Stochastic gradient descent."""
    biases = decay if decay_biases else 0.0
    return Rule(float(momentum), 0.0, 0.0, float(decay), biases, False, nesterov, float(clip))


RULE = types.NamedTuple((*[types.float64] * 5, types.boolean, types.boolean, types.float64), Rule)
ENDS = types.Array(types.int64, 1, "C")
STEP = types.float32(*[FLOATS] * 4, ENDS, RULE, types.float64, types.int64)


@entry(STEP, handed=True)
def step(values, grads, first, second, ends, rule, lr, count):
    """Make update number `count`, from 1; the norm of the gradients, if they are clipped.

    `ends` says where the weights end, the biases, and then the weights and the biases of neurons
    that were dropped.
    """
    norm = np.float32(0)
    scale = np.float32(1)
    if rule.clip > 0:
        norm = length(grads, ends[1])
        scale = np.float32(rule.clip) / (norm + np.float32(1e-6))
        if scale > np.float32(1):
            scale = np.float32(1)
    begin = 0
    for part in range(4):
        decay = rule.decay if part % 2 == 0 else rule.bias_decay
        if part < 2 or decay != 0:
            if rule.beta2 > 0:
                move_adam(
                    *(values, grads, first, second),
                    *(begin, ends[part], rule, decay, lr, count, scale),
                )
            else:
                move_sgd(values, grads, first, begin, ends[part], rule, decay, lr, scale)
        begin = ends[part]
    return norm


@inner
def length(grads, end):
    """The norm of all gradients."""
    a, b = narrow(), narrow()
    for at in range(0, end, 2 * NARROW):
        x = load(grads, at, a)
        a = fma(x, x, a)
        if at + NARROW < end:
            y = load(grads, at + NARROW, b)
            b = fma(y, y, b)
    return np.float32(math.sqrt(total(add(a, b))))


@inner
def move_adam(values, grads, first, second, begin, end, rule, decay, lr, count, scale):
    like = narrow()
    scales = fill(np.float32(scale), like)
    fresh1 = fill(np.float32(1 - rule.beta1), like)
    fresh2 = fill(np.float32(1 - rule.beta2), like)
    beta2 = fill(np.float32(rule.beta2), like)
    size = fill(np.float32(lr / (1 - rule.beta1**count)), like)
    spread = fill(np.float32(1 / math.sqrt(1 - rule.beta2**count)), like)
    epsilon = fill(np.float32(rule.epsilon), like)
    coupled = fill(np.float32(0 if rule.decoupled else decay), like)
    left = fill(np.float32(1 - lr * decay if rule.decoupled else 1), like)
    for at in range(begin, end, NARROW):
        value = load(values, at, like)
        grad = fma(coupled, value, mul(load(grads, at, like), scales))
        value = mul(value, left)
        mean = load(first, at, like)
        mean = fma(fresh1, sub(grad, mean), mean)
        square = fma(mul(grad, fresh2), grad, mul(load(second, at, like), beta2))
        store(first, at, mean)
        store(second, at, square)
        below = fma(root(square), spread, epsilon)
        store(values, at, sub(value, div(mul(size, mean), below)))


@inner
def move_sgd(values, grads, first, begin, end, rule, decay, lr, scale):
    like = narrow()
    scales = fill(np.float32(scale), like)
    rate = fill(np.float32(lr), like)
    momentum = fill(np.float32(rule.beta1), like)
    decays = fill(np.float32(decay), like)
    for at in range(begin, end, NARROW):
        value = load(values, at, like)
        grad = fma(decays, value, mul(load(grads, at, like), scales))
        if rule.beta1 > 0:
            mean = fma(momentum, load(first, at, like), grad)
            store(first, at, mean)
            grad = fma(momentum, mean, grad) if rule.nesterov else mean
        store(values, at, sub(value, mul(rate, grad)))


@entry(types.void(FLOATS, FLOATS, types.float64))
def mix(target, values, share):
    """Mix a share of one network's numbers into another's of the same plan; 1 copies them."""
    like = narrow()
    shares = fill(np.float32(share), like)
    for at in range(0, len(values), NARROW):
        new = load(values, at, like)
        if share < 1:
            old = load(target, at, like)
            new = fma(shares, sub(new, old), old)
        store(target, at, new)
