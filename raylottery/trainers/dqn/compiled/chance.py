"""Chance in compiled code: counters that are hashed, and the generator that environments use.

A counted draw follows from a key and from how many came before it, so that nothing else that is
drawn can move it. Environments are reset from numpy's PCG64, as gymnasium resets them.
"""

from __future__ import annotations

import numpy as np

from raylottery.kernel.compiled import inner


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ONE = np.uint64(1)
UNIT = 1.0 / 9007199254740992.0
MULTIPLIER_HIGH = np.uint64(2549297995355413924)
MULTIPLIER_LOW = np.uint64(4865540595714422341)


@inner
def drawn(key, count):
    """Draw number `count` of a key's, 64 bits: SplitMix64, which can begin anywhere."""
    z = key + (np.uint64(count) + ONE) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@inner
def share(bits):
    """A number from 0 to 1."""
    return np.float64(bits >> np.uint64(11)) * UNIT


@inner
def below(bits, count):
    """A whole number below a count, which is far smaller than 2 to the 32nd."""
    return np.int64(((bits >> HALF) * np.uint64(count)) >> HALF)


@inner
def uniform(stream, low, high):
    """What numpy's Generator.uniform draws next from a PCG64; `stream` holds its state."""
    return low + (high - low) * share(pcg64(stream))


@inner
def pcg64(stream):
    """The next 64 bits; state and increment have a high and a low half each."""
    high, low, step_high, step_low = stream[0], stream[1], stream[2], stream[3]
    new_low = low * MULTIPLIER_LOW
    new_high = upper(low, MULTIPLIER_LOW) + high * MULTIPLIER_LOW + low * MULTIPLIER_HIGH
    low = new_low + step_low
    high = new_high + step_high + np.uint64(low < new_low)
    stream[0], stream[1] = high, low
    mixed, turn = high ^ low, high >> np.uint64(58)
    return (mixed >> turn) | (mixed << ((np.uint64(64) - turn) & np.uint64(63)))


@inner
def upper(a, b):
    """The upper half of a product of 128 bits."""
    a1, a0, b1, b0 = a >> HALF, a & LOW, b >> HALF, b & LOW
    middle = a1 * b0 + ((a0 * b0) >> HALF)
    return a1 * b1 + (middle >> HALF) + (((middle & LOW) + a0 * b1) >> HALF)
