"""Experience: transitions as flat arrays, and the buffer that training draws from.

A transition is a state, an action, the discounted sum of the next n rewards, the state after
them, whether the episode ended there, and n. Runners put them together, so the buffer knows
nothing of episodes and gives ready batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from raylottery.spec import DQNTrainer


Transitions = dict[str, np.ndarray]
"""Arrays of one length: obs, actions, rewards, next_obs, terminateds, n_step."""


class Replay:
    """The newest transitions, drawn alike or by priority."""

    def __init__(self, spec: DQNTrainer, seed: int):
        self.capacity = spec.buffer
        self.beta = spec.priority_beta
        self.alpha = spec.priority
        self.arrays: Transitions = {}
        self.size = 0
        self.next = 0
        self.chance = np.random.default_rng(seed)
        self.priorities = SumTree(spec.buffer) if spec.priority else None
        self.highest = 1.0

    def add(self, new: Transitions) -> None:
        """Put transitions in, in place of the oldest once the buffer is full.

        A transition that was never drawn has no priority yet, and is given the highest.
        """
        new = dict(new)
        priorities = new.pop("priorities", None)
        count = len(new.get("actions", ()))
        if count == 0:
            return
        if not self.arrays:
            self.arrays = {
                name: np.zeros((self.capacity, *part.shape[1:]), part.dtype)
                for name, part in new.items()
            }
        places = (self.next + np.arange(count)) % self.capacity
        for name, part in new.items():
            self.arrays[name][places] = part
        if self.priorities is not None:
            if priorities is None:
                priorities = np.full(count, self.highest)
            self.highest = max(self.highest, float(priorities.max()))
            self.priorities.set(places, priorities)
        self.next = (self.next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def draw(self, batches: int, size: int) -> list[Transitions]:
        """Batches for so many updates, all drawn from what is there now."""
        places = self.chance.integers(self.size, size=(batches, size))
        parts = {name: array[places] for name, array in self.arrays.items()}
        weights = np.ones(size, np.float32)
        return [
            {name: part[i] for name, part in parts.items()} | {"weights": weights}
            for i in range(batches)
        ]

    def draw_by_priority(self, size: int) -> tuple[Transitions, np.ndarray]:
        """One batch and the places it came from, with weights that make up for the bias."""
        assert self.priorities is not None
        places = self.priorities.find(self.chance.random(size))
        share = self.priorities.at(places) / self.priorities.total
        weights = (self.size * share) ** -self.beta
        batch = {name: array[places] for name, array in self.arrays.items()}
        batch["weights"] = (weights / weights.max()).astype(np.float32)
        return batch, places

    def reprioritise(self, places: np.ndarray, errors: np.ndarray) -> None:
        """Give drawn transitions the priority of their latest error."""
        assert self.priorities is not None
        priorities = (np.abs(errors) + 1e-6) ** self.alpha
        self.priorities.set(places, priorities)
        self.highest = max(self.highest, float(priorities.max()))

    def contents(self) -> Transitions:
        """All transitions, oldest first, and their priorities where they have some."""
        first = self.next if self.size == self.capacity else 0
        places = (first + np.arange(self.size)) % self.capacity
        found = {name: array[places] for name, array in self.arrays.items()}
        if self.priorities is not None:
            found["priorities"] = self.priorities.at(places)
        return found


class SumTree:
    """Priorities in the leaves of a binary tree whose inner nodes hold the sums below them."""

    def __init__(self, size: int):
        self.leaves = 1 << (size - 1).bit_length()
        self.nodes = np.zeros(2 * self.leaves)

    @property
    def total(self) -> float:
        return float(self.nodes[1])

    def at(self, places: np.ndarray) -> np.ndarray:
        return self.nodes[places + self.leaves]

    def set(self, places: np.ndarray, values: np.ndarray) -> None:
        """The last of equal places wins."""
        nodes = places + self.leaves
        self.nodes[nodes] = values
        while nodes[0] > 1:
            nodes = np.unique(nodes // 2)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def find(self, shares: np.ndarray) -> np.ndarray:
        """The places at which these shares of the total fall."""
        targets = shares * self.total
        nodes = np.ones(len(targets), np.int64)
        while nodes[0] < self.leaves:
            left = self.nodes[2 * nodes]
            right = (targets >= left) & (self.nodes[2 * nodes + 1] > 0)
            targets = np.where(right, targets - left, targets)
            nodes = 2 * nodes + right
        return nodes - self.leaves


class Assembler:
    """Sums the rewards of n steps, lane by lane, into transitions."""

    def __init__(self, lanes: int, n_step: int, gamma: float):
        self.pending: list[deque] = [deque() for _ in range(lanes)]
        self.n_step = n_step
        self.gamma = gamma

    def add(
        self,
        lane: int,
        obs: np.ndarray,
        action: int,
        reward: float,
        next_obs: np.ndarray,
        terminated: bool,
        truncated: bool,
    ) -> list[tuple]:
        """The transitions that are whole with this step; at an episode's end, all that began."""
        steps = self.pending[lane]
        steps.append((obs, action, reward))
        whole = []
        if terminated or truncated:
            while steps:
                whole.append(self._sum(steps, next_obs, terminated))
        elif len(steps) == self.n_step:
            whole.append(self._sum(steps, next_obs, False))
        return whole

    def _sum(self, steps: deque, next_obs: np.ndarray, terminated: bool) -> tuple:
        total = 0.0
        for _, _, reward in reversed(steps):
            total = reward + self.gamma * total
        n = len(steps)
        obs, action, _ = steps.popleft()
        return obs, action, total, next_obs, terminated, n


def stack(transitions: Sequence[tuple], shape: tuple[int, ...], dtype: str) -> Transitions:
    """Transitions one by one, as arrays."""
    columns = zip(*transitions, strict=True) if transitions else [()] * 6
    obs, actions, rewards, next_obs, terminated, n = columns
    return {
        "obs": np.asarray(obs, dtype).reshape(-1, *shape),
        "actions": np.asarray(actions, np.int64),
        "rewards": np.asarray(rewards, np.float32),
        "next_obs": np.asarray(next_obs, dtype).reshape(-1, *shape),
        "terminateds": np.asarray(terminated, bool),
        "n_step": np.asarray(n, np.float32),
    }
