"""Trains a masked DQN agent with RLlib, one ticket at a time."""

from __future__ import annotations

import functools

import torch
import torch._dynamo  # an optimizer's first step would import it: better here than in a round

from raylottery.errors import TrainingError
from raylottery.spec import Sweep
from raylottery.trainers.base import Outcome, Start, Weights, digest
from raylottery.trainers.dqn import nets
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds, greedy
from raylottery.trainers.dqn.rllib.algorithm import TicketDQN, build
from raylottery.trainers.dqn.rllib.learner import TicketLearner
from raylottery.trainers.dqn.rllib.runner import TransitionRunner
from raylottery.trainers.dqn.rounds import AgentTrainer


class RLlibDQN(AgentTrainer):
    """Agents of RLlib's."""

    threads = False

    def __init__(self, study: Sweep, device: torch.device):
        gpu = device.type == "cuda"
        super().__init__(study, torch.cuda.get_device_name(device) if gpu else device.type)
        self.gpus = study.resources.gpus if gpu else 0

    @property
    def agent(self) -> TicketDQN:
        return self.algorithm

    @functools.cached_property
    def algorithm(self) -> TicketDQN:
        return build(self.spec, self.gpus)

    @functools.cached_property
    def net(self) -> nets.QNet:
        """The agent that is measured."""
        return self._build()

    @functools.cached_property
    def arenas(self) -> tuple[Arena, Arena]:
        """Where it is measured on the way, and where at the end."""
        counts = (self.study.eval.episodes, self.study.eval.final)
        way, end = (Arena(self.spec, evaluation_seeds(count)) for count in counts)
        return way, end

    def train(self, start: Start) -> Outcome:
        try:
            torch.set_num_threads(self.spec.threads)
            outcome = super().train(start)
            self.check_copies(outcome.weights)
        except Exception:
            self.close()  # the next round is not to meet processes that have failed
            raise
        return outcome

    def close(self) -> None:
        """Let go of the algorithm, its processes and all environments."""
        if "algorithm" in self.__dict__:
            self.algorithm.stop()
            del self.algorithm
        if "arenas" in self.__dict__:
            for arena in self.arenas:
                arena.close()
            del self.arenas

    def greedy_returns(self, *, on_the_way: bool) -> list[float]:
        way, end = self.arenas
        self.net.load_state_dict(dict(self.algorithm.weights()), strict=True)
        return [e.total for e in (way if on_the_way else end).play(greedy(self.net))]

    def check_copies(self, weights: Weights) -> None:
        """All learners have trained, and all runners act with, one set of weights."""
        trained = digest(weights)
        copies = {
            "a learner": self.algorithm.on_learners(TicketLearner.weights),
            "an env runner": self.algorithm.on_runners(TransitionRunner.weights),
        }
        for where, held in copies.items():
            if any(digest(copy) != trained for copy in held):
                raise TrainingError(
                    f"{where} holds other weights than those that were trained, at step "
                    f"{self.algorithm.at}. Nothing of this round was kept; run the sweep again"
                )
