"""Greedy actions of a network, for whoever steps environments in Python."""

from __future__ import annotations

import numpy as np

from raylottery.kernel import Network, losses
from raylottery.spec import DQNTrainer
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn.compiled.layers import network
from raylottery.trainers.dqn.episodes import Greedy


def greedy(spec: DQNTrainer, weights: Weights) -> Greedy:
    """Pruned weights count as zeros here, which changes no bit of what is made of the others."""
    return choosing(spec, network(spec, weights, {}))


def choosing(spec: DQNTrainer, net: Network) -> Greedy:
    """The best action of each observation, as the compiled loops have it."""

    def act(obs: np.ndarray) -> np.ndarray:
        room = net.room(len(obs))
        room.inputs[:, : len(obs)] = flat(obs).T
        q = net.forward(room)
        if spec.dueling:
            streams, q = q, np.empty((len(q) - 1, room.lanes), np.float32)
            losses.dueling_values(streams, q)
        return q[:, : len(obs)].argmax(axis=0)

    return act


def flat(obs: np.ndarray) -> np.ndarray:
    """Observations as the first layer is given them: (environments, inputs)."""
    rows = obs.reshape(len(obs), -1)
    if rows.dtype != np.uint8:
        return rows
    return rows.astype(np.float32) * np.float32(1 / 255)
