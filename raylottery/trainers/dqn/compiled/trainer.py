"""Trains masked DQN agents in compiled code, one ticket at a time."""

from __future__ import annotations

import functools

import numpy as np
import torch

from raylottery.spec import Sweep
from raylottery.trainers.dqn.compiled import environments, loops
from raylottery.trainers.dqn.compiled.acting import choosing
from raylottery.trainers.dqn.compiled.agent import CompiledAgent, played
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds
from raylottery.trainers.dqn.rounds import AgentTrainer


class CompiledDQN(AgentTrainer):
    """Agents that are trained on a CPU, at the price of their surviving weights."""

    threads = True

    def __init__(self, study: Sweep, device: torch.device):
        super().__init__(study, "cpu")

    @functools.cached_property
    def agent(self) -> CompiledAgent:
        return CompiledAgent(self.spec, self.space)

    @functools.cached_property
    def arenas(self) -> dict[bool, Arena]:
        return {way: Arena(self.spec, seeds) for way, seeds in self.seeds.items()}

    @functools.cached_property
    def seeds(self) -> dict[bool, list[int]]:
        """Of the episodes of a measurement on the way, and of one at the end."""
        counts = self.study.eval.episodes, self.study.eval.final
        return {way: evaluation_seeds(n) for way, n in zip((True, False), counts, strict=True)}

    def greedy_returns(self, *, on_the_way: bool) -> list[float]:
        agent, seeds = self.agent, self.seeds[on_the_way]
        game = environments.game(self.spec, seeds)
        if game is None:
            arena = self.arenas[on_the_way]
            return [e.total for e in arena.play(choosing(self.spec, agent.net))]
        returns = np.zeros(len(seeds))
        loops.measure(
            *(*agent.entries.measuring, agent.passing(agent.net, len(seeds))),
            *(played(len(seeds), 1, agent.width), game, self.spec.dueling, returns),
        )
        return returns.tolist()

    def close(self) -> None:
        if "agent" in self.__dict__:
            self.agent.close()
            del self.agent
        if "arenas" in self.__dict__:
            for arena in self.arenas.values():
                arena.close()
            del self.arenas
