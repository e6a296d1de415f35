"""A DQN in torch as it is written in a single file: one environment, flat replay, autograd."""

from __future__ import annotations

import random

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from peers import BATCH, BUFFER, CLIP, EPSILON_STEPS, GAMMA, HIDDEN, LR, RANDOM_STEPS, SYNC


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(4, HIDDEN), nn.ReLU()),
        *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        nn.Linear(HIDDEN, 2),
    )


class PlainTorch:
    """Double DQN; an update after every so many steps."""

    def __init__(self, every: int):
        self.every = every
        torch.manual_seed(0)
        random.seed(0)
        self.chance = np.random.default_rng(0)
        self.env = gymnasium.make("CartPole-v1")
        self.obs, _ = self.env.reset(seed=0)
        self.net, self.target = network(), network()
        self.target.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LR, fused=True)
        self.states = np.zeros((BUFFER, 4), np.float32)
        self.after = np.zeros((BUFFER, 4), np.float32)
        self.actions = np.zeros(BUFFER, np.int64)
        self.rewards = np.zeros(BUFFER, np.float32)
        self.over = np.zeros(BUFFER, np.float32)
        self.steps = self.updates = 0
        for _ in range(RANDOM_STEPS):
            self.act(1.0)

    def act(self, epsilon: float) -> None:
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = int(self.net(torch.from_numpy(self.obs)).argmax())
        after, reward, terminated, truncated, _ = self.env.step(action)
        at = self.steps % BUFFER
        self.states[at], self.after[at] = self.obs, after
        self.actions[at], self.rewards[at], self.over[at] = action, reward, terminated
        self.steps += 1
        self.obs = self.env.reset()[0] if terminated or truncated else after

    def update(self) -> None:
        places = self.chance.integers(min(self.steps, BUFFER), size=BATCH)
        after = torch.from_numpy(self.after[places])
        with torch.no_grad():
            best = self.net(after).argmax(dim=1, keepdim=True)
            value = self.target(after).gather(1, best).squeeze(1)
            left = 1 - torch.from_numpy(self.over[places])
            wanted = torch.from_numpy(self.rewards[places]) + GAMMA * left * value
        values = self.net(torch.from_numpy(self.states[places]))
        chosen = values.gather(1, torch.from_numpy(self.actions[places])[:, None]).squeeze(1)
        loss = functional.huber_loss(chosen, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.optimizer.step()
        self.updates += 1
        if self.updates % SYNC == 0:
            self.target.load_state_dict(self.net.state_dict())

    def train(self, updates: int) -> int:
        for _ in range(updates):
            for _ in range(self.every):
                passed = (self.steps - RANDOM_STEPS) / EPSILON_STEPS
                self.act(max(0.05, 1 - 0.95 * passed))
            self.update()
        return updates

    def stop(self) -> None:
        self.env.close()
