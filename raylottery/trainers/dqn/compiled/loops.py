"""Acting, learning and measuring, each in one call from one milestone to the next.

Where Python steps the environments, it calls `act` and `record` for each step, and `train` for the
updates alone: what is drawn, and what comes out, is the same.

Functions are handed to one another as arguments, since whatever calls one by its name is compiled
with a copy of it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from raylottery.kernel import losses, optimizers, passes
from raylottery.kernel.compiled import entry, inner
from raylottery.kernel.losses import TABLE
from raylottery.kernel.passes import FLOATS
from raylottery.kernel.plan import INPUTS
from raylottery.trainers.dqn.compiled import games
from raylottery.trainers.dqn.compiled.chance import below, drawn, share
from raylottery.trainers.dqn.compiled.tables import (
    ACTION,
    ACTIONS,
    AT,
    COUNT,
    DISCOUNT,
    DISCOUNTS,
    DOUBLE_TABLE,
    DOUBLES,
    DRAWN,
    DUE,
    EARNED,
    EARNINGS,
    ELAPSED,
    ENDED,
    ENDED_HERE,
    ERRORS,
    EXPLORE,
    GAME,
    HELD,
    INTS,
    LEARNER,
    NET,
    NEXT,
    NUMBER,
    OLDEST,
    OVER,
    PLAY,
    REACHED,
    REPLAY,
    REWARD,
    REWARDS,
    RULES,
    RUNNING,
    SEEN,
    SIZE,
    STEPS,
    SUMMED,
    TERMINATED,
    TOOK,
    UPDATES,
    WANTED,
    WEIGHTS,
    WHOLE,
    YES,
)


FORWARD = types.FunctionType(passes.FORWARD)
BACKWARD = types.FunctionType(passes.BACKWARD)
MOVE = types.FunctionType(optimizers.STEP)
KIND = tuple(map(types.FunctionType, (games.RESET, games.STEP, games.SHOW)))


# Acting


@inner
def best(q, lane):
    """The action of the highest value, the first of equals."""
    found = 0
    for action in range(1, len(q)):
        if q[action, lane] > q[found, lane]:
            found = action
    return found


ACT = types.void(FORWARD, NET, PLAY, INTS, YES, WHOLE, NUMBER)


@entry(ACT, handed=True)
def act(forward, net, play, counters, dueling, actions, epsilon):
    """Choose an action in every lane: the best, or now and then any."""
    lanes, _, width = play.frames.shape
    stride = net.outputs.shape[1]
    key = np.uint64(counters[EXPLORE])
    greedy = 0
    for lane in range(lanes):
        count = 2 * (counters[STEPS] + lane)
        if share(drawn(key, count)) < epsilon:
            play.marks[lane, ACTION] = below(drawn(key, count + 1), actions)
        else:
            play.marks[lane, ACTION] = -1
            greedy += 1
            for i in range(width):
                net.acts[i * stride + lane] = play.frames[lane, SEEN, i]
    if greedy:
        forward(net.plan, net.index, net.values, net.acts, stride)
        if dueling:
            losses.dueling_values(net.outputs, net.q)
        for lane in range(lanes):
            if play.marks[lane, ACTION] < 0:
                play.marks[lane, ACTION] = best(net.q, lane)


RECORD = types.void(PLAY, NUMBER, TABLE, INTS, DOUBLES)


@entry(RECORD, handed=True)
def record(play, gamma, replay, counters, returns):
    """Take what came of the last step in every lane: transitions that are whole with it, and
    returns of episodes that ended."""
    lanes, _, width = play.frames.shape
    n_step = play.frames.shape[1] - HELD
    for lane in range(lanes):
        frames, marks, sums = play.frames[lane], play.marks[lane], play.sums[lane]
        place = (marks[OLDEST] + marks[COUNT]) % n_step
        for i in range(width):
            frames[HELD + place, i] = frames[SEEN, i]
        marks[ACTIONS + place] = marks[ACTION]
        sums[REWARDS + place] = sums[REWARD]
        sums[RUNNING] += sums[REWARD]
        marks[COUNT] += 1
        while marks[COUNT] == n_step or (marks[ENDED_HERE] and marks[COUNT]):
            total = 0.0
            for i in range(marks[COUNT] - 1, -1, -1):
                total = sums[REWARDS + (marks[OLDEST] + i) % n_step] + gamma * total
            row = replay[counters[NEXT]]
            for i in range(width):
                row[i] = frames[HELD + marks[OLDEST], i]
                row[width + i] = frames[REACHED, i]
            row[2 * width + TOOK] = marks[ACTIONS + marks[OLDEST]]
            row[2 * width + EARNED] = total
            row[2 * width + OVER] = marks[TERMINATED]
            row[2 * width + SUMMED] = marks[COUNT]
            left = 1.0 - marks[TERMINATED]
            row[2 * width + DISCOUNT] = left * gamma ** marks[COUNT]
            counters[NEXT] = (counters[NEXT] + 1) % len(replay)
            if counters[SIZE] < len(replay):
                counters[SIZE] += 1
            marks[OLDEST] = (marks[OLDEST] + 1) % n_step
            marks[COUNT] -= 1
        if marks[ENDED_HERE]:
            returns[counters[ENDED]] = sums[RUNNING]
            counters[ENDED] += 1
            sums[RUNNING] = 0
    counters[STEPS] += lanes


PLAYING = (FORWARD, types.FunctionType(ACT), types.FunctionType(RECORD), *KIND)
COLLECT = types.void(*PLAYING, NET, PLAY, GAME, RULES, TABLE, INTS, DOUBLES, DOUBLES)


@entry(COLLECT, handed=True)
def collect(
    forward, act, record, reset, step, show, net, play, game, rules, replay, counters, returns,
    epsilons
):  # fmt: skip
    """One step of every lane for each share of random actions."""
    for epsilon in epsilons:
        act(forward, net, play, counters, rules.dueling, rules.actions, epsilon)
        for lane in range(len(play.marks)):
            marks = play.marks[lane]
            reward, terminated = step(game.states, lane, marks[ACTION], game.two)
            play.sums[lane, REWARD] = reward
            marks[ELAPSED] += 1
            marks[TERMINATED] = terminated
            marks[ENDED_HERE] = terminated or marks[ELAPSED] >= game.limit
            show(game.states, lane, False, play.frames[lane, REACHED])
        record(play, rules.gamma, replay, counters, returns)
        for lane in range(len(play.marks)):
            fresh = play.marks[lane, ENDED_HERE] > 0
            if fresh:
                reset(game.states, game.streams, lane)
                play.marks[lane, ELAPSED] = 0
            show(game.states, lane, fresh, play.frames[lane, SEEN])


# Learning

DRAW = types.void(FLOATS, FLOATS, FLOATS, WHOLE, WHOLE, INTS, TABLE, TABLE, INTS)


@entry(DRAW, called=False, handed=True)
def draw(here, there, far, width, lanes, actions, batch, replay, counters):
    """A batch of what is in the buffer now."""
    key, size = np.uint64(counters[REPLAY]), len(actions)
    first = counters[DRAWN] * size
    for b in range(size):
        row = replay[below(drawn(key, first + b), counters[SIZE])]
        for i in range(width):
            here[i * lanes + b] = row[i]
            there[i * lanes + b] = row[width + i]
            far[i * lanes + b] = row[width + i]
        actions[b] = np.int64(row[2 * width + TOOK])
        batch[EARNINGS, b] = row[2 * width + EARNED]
        batch[DISCOUNTS, b] = row[2 * width + DISCOUNT]
    counters[DRAWN] += 1


JUDGE = types.float64(*[TABLE] * 8, INTS, TABLE, *[YES] * 3)


@entry(JUDGE, called=False, handed=True)
def judge(
    here, there, far, output_deltas, q, choices, ratings, q_deltas,
    actions, batch, double, dueling, squared,
):  # fmt: skip
    """The loss of a batch, and the deltas of the outputs."""
    if dueling:
        losses.dueling_values(here, q)
        losses.dueling_values(there, choices)
        losses.dueling_values(far, ratings)
    losses.bootstrapped(
        choices if double else ratings,
        ratings,
        batch[EARNINGS],
        batch[DISCOUNTS],
        batch[WANTED],
    )
    loss = losses.chosen_values(
        q, actions, batch[WANTED], batch[WEIGHTS], squared, q_deltas, batch[ERRORS]
    )
    if dueling:
        losses.dueling_deltas(q_deltas, output_deltas)
    return loss


SYNC = types.void(FLOATS, FLOATS, INTS, NUMBER)


@entry(SYNC, called=False, handed=True)
def sync(target, values, sources, tau):
    """Mix the online network into the target, or copy it."""
    if len(sources) == 0:
        optimizers.mix(target, values, tau)
        return
    share = np.float32(tau)
    for at in range(len(target)):
        new = values[sources[at]] if sources[at] >= 0 else np.float32(0)
        target[at] = target[at] + share * (new - target[at]) if tau < 1 else new


LEARNING = (types.FunctionType(DRAW), types.FunctionType(JUDGE), types.FunctionType(SYNC))
TRAIN = types.void(
    *(BACKWARD, MOVE, *LEARNING, types.FunctionType(COLLECT), *PLAYING),
    *(*[NET] * 4, LEARNER, PLAY, GAME, RULES, TABLE, INTS),
    *(DOUBLES, DOUBLE_TABLE, DOUBLES, DOUBLES),
)


@entry(TRAIN)
def train(
    backward, move, draw, judge, sync, collect, forward, act, record, reset, step, show,
    acting, here, there, far, learner, play, game, rules, replay, counters,
    returns, epsilons, lrs, lost,
):  # fmt: skip
    """An update for each learning rate, and a rollout for each row of random shares, in turn; no
    more once a loss is no number. `lost` are the sum of the losses, and the last."""
    rollout = 0
    lanes = here.outputs.shape[1]
    for lr in lrs:
        if counters[DUE] == 0:
            collect(
                forward, act, record, reset, step, show,
                acting, play, game, rules, replay, counters, returns, epsilons[rollout],
            )  # fmt: skip
            rollout += 1
            counters[DUE] = rules.updates
        draw(
            *(here.acts, there.acts, far.acts, here.plan[0, INPUTS], lanes),
            *(learner.actions, learner.batch, replay, counters),
        )
        forward(far.plan, far.index, far.values, far.acts, lanes)
        if rules.double:
            forward(there.plan, there.index, there.values, there.acts, lanes)
        forward(here.plan, here.index, here.values, here.acts, lanes)
        loss = judge(
            *(here.outputs, there.outputs, far.outputs, learner.output_deltas),
            *(here.q, there.q, far.q, learner.q_deltas, learner.actions, learner.batch),
            *(rules.double, rules.dueling, rules.squared),
        )
        backward(
            *(here.plan, here.index, learner.mask, here.values, learner.grads),
            *(here.acts, learner.deltas, learner.scratch, lanes),
        )
        counters[UPDATES] += 1
        move(
            *(here.values, learner.grads, learner.first, learner.second, learner.ends),
            *(rules.optimizer, lr, counters[UPDATES]),
        )
        counters[AT] += 1
        counters[DUE] -= 1
        lost[0] += loss
        lost[1] = loss
        if not math.isfinite(loss):
            return
        if counters[AT] % rules.sync_every == 0:
            sync(far.values, here.values, learner.sources, rules.tau)


# Measuring

MEASURE = types.void(FORWARD, *KIND, NET, PLAY, GAME, YES, DOUBLES)


@entry(MEASURE)
def measure(forward, reset, step, show, net, play, game, dueling, returns):
    """One greedy episode in each lane."""
    lanes, _, width = play.frames.shape
    stride = net.outputs.shape[1]
    going = lanes
    for lane in range(lanes):
        reset(game.states, game.streams, lane)
        play.marks[lane, ELAPSED] = 0
        play.marks[lane, ENDED_HERE] = 0
        returns[lane] = 0
    while going:
        for lane in range(lanes):
            seen = play.frames[lane, SEEN]
            fresh = play.marks[lane, ELAPSED] == 0
            show(game.states, lane, fresh, seen)
            for i in range(width):
                net.acts[i * stride + lane] = seen[i]
        forward(net.plan, net.index, net.values, net.acts, stride)
        if dueling:
            losses.dueling_values(net.outputs, net.q)
        for lane in range(lanes):
            marks = play.marks[lane]
            if not marks[ENDED_HERE]:
                action = best(net.q, lane)
                reward, terminated = step(game.states, lane, action, game.two)
                returns[lane] += reward
                marks[ELAPSED] += 1
                if terminated or marks[ELAPSED] >= game.limit:
                    marks[ENDED_HERE] = 1
                    going -= 1
