"""Environments in compiled code, to the bit what gymnasium's are.

Each plays in a row of two tables: its state, in double precision, and that of its generator.
Terms stand in the order in which gymnasium has them, as they round in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import types

from raylottery.kernel.compiled import Entry, entry, inner
from raylottery.kernel.simd import fill, fma, mul, narrow, pick
from raylottery.trainers.dqn.compiled.chance import uniform


STATE = 4
"""Numbers that hold the state of any of them."""

TURN = 2 * math.pi
FASTEST = (4 * math.pi, 9 * math.pi)
"""Speeds of Acrobot's links."""

COSINE = tuple(
    np.float32(float.fromhex(digits))
    for digits in ("0x1.98e616p-16", "-0x1.6c06dcp-10", "0x1.55553cp-5", "-0x1p-1", "0x1p0")
)
SINE = tuple(
    np.float32(float.fromhex(digits))
    for digits in ("0x1.7d3bbcp-19", "-0x1.a06bbap-13", "0x1.11119ap-7", "-0x1.555556p-3")
)
"""The coefficients of numpy's, in single precision, from the last."""


STATES = types.Array(types.float64, 2, "C")
STREAMS = types.Array(types.uint64, 2, "C")
RESET = types.void(STATES, STREAMS, types.int64)
STEP = types.Tuple((types.float64, types.boolean))(STATES, types.int64, types.int64, types.float64)
SHOW = types.void(STATES, types.int64, types.boolean, types.Array(types.float32, 1, "C"))


@dataclass(frozen=True)
class Kind:
    """An environment: what plays it in one lane."""

    width: int
    """Numbers that it shows."""
    reset: Entry
    """Begin an episode."""
    step: Entry
    """Act once; the reward, and whether the episode terminates. Its last argument, `two`, is an
    exponent of 2, which a compiler that knew it would make a product of, and round otherwise."""
    show: Entry
    """Fill in what the agent sees; `fresh` says that the episode has just begun."""


# CartPole


@entry(RESET, handed=True)
def reset_cartpole(states, streams, lane):
    for i in range(4):
        states[lane, i] = uniform(streams[lane], -0.05, 0.05)


@entry(STEP, handed=True)
def step_cartpole(states, lane, action, two):
    state = states[lane]
    x, speed, angle, turning = state[0], state[1], state[2], state[3]
    force = 10.0 if action == 1 else -10.0
    cosine, sine = math.cos(angle), math.sin(angle)
    total = 0.1 + 1.0
    moment = 0.1 * 0.5
    push = (force + moment * (turning * turning) * sine) / total
    bend = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - 0.1 * (cosine * cosine) / total))
    gain = push - moment * bend * cosine / total
    x, speed = x + 0.02 * speed, speed + 0.02 * gain
    angle, turning = angle + 0.02 * turning, turning + 0.02 * bend
    state[0], state[1], state[2], state[3] = x, speed, angle, turning
    limit = 12 * 2 * math.pi / 360
    return 1.0, x < -2.4 or x > 2.4 or angle < -limit or angle > limit


@entry(SHOW, handed=True)
def show_cartpole(states, lane, fresh, frame):
    for i in range(4):
        frame[i] = states[lane, i]


CARTPOLE = Kind(4, reset_cartpole, step_cartpole, show_cartpole)


# MountainCar


@entry(RESET, handed=True)
def reset_mountain_car(states, streams, lane):
    states[lane, 0] = uniform(streams[lane], -0.6, -0.4)
    states[lane, 1] = 0.0


@entry(STEP, handed=True)
def step_mountain_car(states, lane, action, two):
    position, speed = states[lane, 0], states[lane, 1]
    speed += (action - 1) * 0.001 + math.cos(3 * position) * (-0.0025)
    speed = min(max(speed, -0.07), 0.07)
    position += speed
    position = min(max(position, -1.2), 0.6)
    if position == -1.2 and speed < 0:
        speed = 0.0
    states[lane, 0], states[lane, 1] = position, speed
    return -1.0, position >= 0.5 and speed >= 0


@entry(SHOW, handed=True)
def show_mountain_car(states, lane, fresh, frame):
    frame[0], frame[1] = states[lane, 0], states[lane, 1]


MOUNTAIN_CAR = Kind(2, reset_mountain_car, step_mountain_car, show_mountain_car)


# Acrobot


@entry(RESET, handed=True)
def reset_acrobot(states, streams, lane):
    for i in range(4):
        states[lane, i] = np.float64(np.float32(uniform(streams[lane], -0.1, 0.1)))


@entry(SHOW, handed=True)
def show_acrobot(states, lane, fresh, frame):
    state = states[lane]
    frame[4], frame[5] = state[2], state[3]
    for i in range(2):
        angle = state[i]
        if fresh:  # gymnasium has it in single precision until the first step
            frame[2 * i], frame[2 * i + 1] = single_cosine(angle), single_sine(angle)
        else:
            frame[2 * i], frame[2 * i + 1] = math.cos(angle), math.sin(angle)


@inner
def single_cosine(angle):
    """numpy's of a single-precision number near zero: a series of its own, in fused steps."""
    like = narrow()
    x = fill(np.float32(angle), like)
    return pick(series(mul(x, x), COSINE, like), 0)


@inner
def single_sine(angle):
    like = narrow()
    x = fill(np.float32(angle), like)
    square = mul(x, x)
    return pick(fma(mul(series(square, SINE, like), square), x, x), 0)


@inner
def series(x, coefficients, like):
    total = fill(coefficients[0], like)
    for coefficient in coefficients[1:]:
        total = fma(total, x, fill(coefficient, like))
    return total


@entry(STEP, handed=True)
def step_acrobot(states, lane, action, two):
    state = states[lane]
    torque = action - 1.0
    a, b, c, d = state[0], state[1], state[2], state[3]
    span = 0.2 - 0
    half = span / 2.0
    a1, b1, c1, d1 = swing(a, b, c, d, torque, two)
    a2, b2, c2, d2 = swing(a + half * a1, b + half * b1, c + half * c1, d + half * d1, torque, two)
    a3, b3, c3, d3 = swing(a + half * a2, b + half * b2, c + half * c2, d + half * d2, torque, two)
    a4, b4, c4, d4 = swing(a + span * a3, b + span * b3, c + span * c3, d + span * d3, torque, two)
    sixth = span / 6.0
    a = a + sixth * (a1 + 2 * a2 + 2 * a3 + a4)
    b = b + sixth * (b1 + 2 * b2 + 2 * b3 + b4)
    c = c + sixth * (c1 + 2 * c2 + 2 * c3 + c4)
    d = d + sixth * (d1 + 2 * d2 + 2 * d3 + d4)
    a, b = wrapped(a), wrapped(b)
    c = min(max(c, -FASTEST[0]), FASTEST[0])
    d = min(max(d, -FASTEST[1]), FASTEST[1])
    state[0], state[1], state[2], state[3] = a, b, c, d
    up = -math.cos(a) - math.cos(b + a) > 1.0
    return 0.0 if up else -1.0, up


@inner
def wrapped(angle):
    while angle > math.pi:
        angle = angle - TURN
    while angle < -math.pi:
        angle = angle + TURN
    return angle


@inner
def swing(a, b, speed_a, speed_b, torque, two):
    """The derivatives of Acrobot's state: both links are 1 long, weigh 1, and turn about their
    middles with a moment of 1."""
    cosine, sine = math.cos(b), math.sin(b)
    d1 = 0.25 + 1.0 * (1.25 + cosine) + 1.0 + 1.0
    d2 = 1.0 * (0.25 + 0.5 * cosine) + 1.0
    phi2 = 0.5 * 9.8 * math.cos(a + b - math.pi / 2.0)
    phi1 = (
        -0.5 * math.pow(speed_b, two) * sine
        - 1.0 * speed_b * speed_a * sine
        + 1.5 * 9.8 * math.cos(a - math.pi / 2)
        + phi2
    )
    bend_b = (torque + d2 / d1 * phi1 - 0.5 * math.pow(speed_a, two) * sine - phi2) / (
        0.25 + 1.0 - math.pow(d2, two) / d1
    )
    bend_a = -(d2 * bend_b + phi1) / d1
    return speed_a, speed_b, bend_a, bend_b


ACROBOT = Kind(6, reset_acrobot, step_acrobot, show_acrobot)
