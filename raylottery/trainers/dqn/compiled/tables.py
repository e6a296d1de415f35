"""What the compiled loops work on: arrays, what their columns mean, and their types."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from raylottery.kernel import optimizers
from raylottery.kernel.losses import TABLE
from raylottery.kernel.optimizers import RULE
from raylottery.kernel.passes import FLOATS, INDEX, PLAN
from raylottery.trainers.dqn.compiled import games


INTS = types.Array(types.int64, 1, "C")
INT_TABLE = types.Array(types.int64, 2, "C")
DOUBLES = types.Array(types.float64, 1, "C")
DOUBLE_TABLE = types.Array(types.float64, 2, "C")
BOX = types.Array(types.float32, 3, "C")

AT, DUE, STEPS, DRAWN, UPDATES, SIZE, NEXT, ENDED, EXPLORE, REPLAY = range(10)
"""Counters: the step of the schedule, updates until experience is collected again, environment
steps and batches of this round, updates of the optimizer, transitions in the buffer, the place of
the next one, and episodes that ended in this call. Then the keys of exploration and of batches."""
COUNTERS = 10

SEEN, REACHED, HELD = range(3)
"""Frames of a lane: what it acts on, what comes of that, and then what it acted on in steps that
are no whole transitions yet."""
ACTION, TERMINATED, ENDED_HERE, ELAPSED, OLDEST, COUNT, ACTIONS = range(7)
"""Marks of a lane: its last action, whether that ended the episode or cut it off too, steps of the
episode, which of the steps that are held is the oldest, how many are, and then their actions."""
REWARD, RUNNING, REWARDS = range(3)
"""Sums of a lane: its last reward, the return of the episode so far, and then rewards that are
held."""

COLUMNS = ("obs", "next_obs", "actions", "rewards", "terminateds", "n_step", "discount")
"""The parts of a transition, as they lie in a row of the replay buffer."""
TOOK, EARNED, OVER, SUMMED, DISCOUNT = range(5)
"""Those behind the two observations: the action, the sum of rewards, whether the episode
terminated, how many rewards there are in the sum, and what the value of the second observation
counts."""
NUMBERS = 5

EARNINGS, DISCOUNTS, WANTED, WEIGHTS, ERRORS = range(5)
"""Rows of numbers of a batch."""
ROWS = 5


class Net(NamedTuple):
    """A packed network, and where it passes over a batch."""

    plan: np.ndarray
    index: np.ndarray
    values: np.ndarray
    acts: np.ndarray
    outputs: np.ndarray
    q: np.ndarray
    """Values of actions: the outputs themselves, unless the network is dueling."""


class Learner(NamedTuple):
    """What else it takes to train a network."""

    mask: np.ndarray
    ends: np.ndarray
    grads: np.ndarray
    first: np.ndarray
    second: np.ndarray
    deltas: np.ndarray
    scratch: np.ndarray
    output_deltas: np.ndarray
    q_deltas: np.ndarray
    actions: np.ndarray
    batch: np.ndarray
    sources: np.ndarray
    """Of each number of the target network, its place in the online one, or -1; empty where they
    lie alike."""


class Play(NamedTuple):
    """The lanes that experience comes from."""

    frames: np.ndarray
    marks: np.ndarray
    sums: np.ndarray


class Game(NamedTuple):
    """The compiled environments in them."""

    limit: int
    two: float
    states: np.ndarray
    streams: np.ndarray


class Rules(NamedTuple):
    """What the specification says."""

    actions: int
    gamma: float
    updates: int
    sync_every: int
    tau: float
    double: bool
    dueling: bool
    squared: bool
    optimizer: optimizers.Rule


NET = types.NamedTuple((PLAN, INDEX, FLOATS, FLOATS, TABLE, TABLE), Net)
LEARNER = types.NamedTuple((FLOATS, INTS, *[FLOATS] * 5, TABLE, TABLE, INTS, TABLE, INTS), Learner)
PLAY = types.NamedTuple((BOX, INT_TABLE, DOUBLE_TABLE), Play)
GAME = types.NamedTuple((types.int64, types.float64, games.STATES, games.STREAMS), Game)
NUMBER, WHOLE, YES = types.float64, types.int64, types.boolean
RULES = types.NamedTuple((WHOLE, NUMBER, WHOLE, WHOLE, NUMBER, YES, YES, YES, RULE), Rules)
