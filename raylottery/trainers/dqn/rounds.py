"""A round of an agent's training, whichever engine makes its updates.

A round begins as its ticket, its clock and the sweep's `reset` section say, and with nothing else:
one agent serves all rounds of a lineage, and gives what a new one would. Evaluation is greedy, in
environments of its own, from the same starts every time; its steps are not counted.
"""

from __future__ import annotations

import functools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from raylottery.errors import TrainingError
from raylottery.sizes.prunable import Prunable
from raylottery.spec import DQNTrainer, Sweep, derive_seed
from raylottery.trainers.base import CurvePoint, Outcome, Scores, Start, Weights, digest, seeded
from raylottery.trainers.dqn import envs, nets
from raylottery.trainers.dqn.resets import Beginning, Experience, beginning, experience
from raylottery.trainers.dqn.schedule import Schedule
from raylottery.trainers.stopping import Search


class Agent(Protocol):
    """What an engine trains, from one round to the next."""

    spec: DQNTrainer
    returns: list[float]
    """Of the training episodes that ended in this round, in order."""

    @property
    def at(self) -> int:
        """The step of the schedule it is at."""
        ...

    @property
    def env_steps(self) -> int:
        """Taken in this round."""
        ...

    def begin(self, beginning: Beginning, experience: Experience, schedule: Schedule) -> None:
        """Begin a round, up to its first update; of the round before nothing is left."""
        ...

    def advance(self, goal: int) -> None:
        """Train up to a step of the schedule."""
        ...

    def weights(self) -> Weights:
        """Those of the online network, on the CPU and apart from it."""
        ...

    def moments(self) -> Weights:
        """Those of the optimizer, by parameter."""
        ...

    def contents(self) -> Weights:
        """The transitions of the replay buffer, oldest first, by the names of their parts."""
        ...

    def mean_loss(self) -> float:
        """Of the updates since it was last asked."""
        ...

    def count_revived(self) -> int:
        """Pruned weights that are not zero, in any network there is."""
        ...


class AgentTrainer(ABC):
    """A solo trainer of the specification's agent in its environment."""

    def __init__(self, study: Sweep, device: str):
        assert isinstance(study.trainer, DQNTrainer)
        self.study = study
        self.spec = study.trainer
        self.device = device
        self.eval_every = self.spec.steps(study.eval.every)
        self.sync_every = self.spec.steps(self.spec.target_every)

    @property
    @abstractmethod
    def agent(self) -> Agent:
        """The one that all rounds are trained with; the first time, it is made."""

    @abstractmethod
    def greedy_returns(self, *, on_the_way: bool) -> list[float]:
        """What the agent gets as it is now, in each episode of a measurement."""

    @functools.cached_property
    def space(self) -> envs.EnvSpaces:
        return envs.spaces(self.spec)

    def prunable(self, *, biases: bool, exclude: Sequence[str] = ()) -> Prunable:
        return nets.layers(self._skeleton(), biases=biases, exclude=exclude)

    def positions(self) -> Mapping[str, int]:
        return nets.positions(self._skeleton(), self.space)

    def total_params(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton().parameters())

    def initial(self, seed: int) -> Weights:
        with seeded(derive_seed("weights", seed)):
            return self._build().state_dict()

    def _build(self) -> nets.QNet:
        return nets.build(self.spec, self.space)

    def _skeleton(self) -> nets.QNet:
        with torch.device("meta"):
            return self._build()

    def begin(self, start: Start) -> None:
        """Set up all that a round begins with."""
        spec, reset = self.spec, self.study.reset
        fresh = self._build().state_dict() if spec.normalise else {}
        self.agent.begin(
            beginning(spec, reset, start, fresh),
            experience(spec, reset, start),
            Schedule(spec, reset, start),
        )

    def train(self, start: Start) -> Outcome:
        """Train a start to its end."""
        agent = self.agent  # a worker's first takes a while, which is no training
        begun = time.perf_counter()
        self.begin(start)
        supermask = self.measure() if self.study.eval.supermask else None

        search = Search(self.study.stop, start)
        log = Log(self.study.eval.window)
        snapshots = {start.clock: agent.weights()} if start.clock in start.keep else {}
        digests: dict[int, str] = {}
        stopped: Weights | None = None
        score_at_stop: float | None = None
        revived = 0
        for step in self.milestones(start, search):
            agent.advance(step)
            if step in start.keep:
                snapshots[step] = agent.weights()
            met = step % self.sync_every == 0 and search.settled(step, agent.weights)
            if step % self.eval_every == 0 or step == start.end:
                revived += agent.count_revived()
                value = self.measure(on_the_way=True)
                log.add(agent, value)
                met = search.measured(step, value) or met
                if start.keep:
                    digests[step] = digest(agent.weights())
            if met:
                stopped = agent.weights()
                score_at_stop = self.measure()
                if search.ends_training:
                    break

        if not log.values or log.values_at != agent.at:  # stopped between two measurements
            revived += agent.count_revived()
            log.add(agent, self.measure(on_the_way=True))
        score = self.measure()
        scores = Scores(
            metric="return",
            score=score,
            score_at_stop=score if score_at_stop is None else score_at_stop,
            score_best=max(log.values),
            score_late=mean(log.values[-max(1, round(len(log.values) / 10)) :]),
            score_area=mean(log.values),
            train_score=mean(agent.returns[-self.study.eval.window :]),
            loss=log.loss,
            steps=agent.at - start.clock,
            env_steps=agent.env_steps,
            stopped_by=search.stopped_by,
            stop_step=search.step,
            supermask_score=supermask,
        )
        return Outcome(
            weights=agent.weights(),
            scores=scores,
            curve=log.points,
            revived=revived,
            seconds=time.perf_counter() - begun,
            snapshots=snapshots,
            stopped=stopped,
            carried=self.carried(),
            digests=digests,
        )

    def milestones(self, start: Start, search: Search) -> list[int]:
        """The steps at which training pauses, to be measured or copied."""
        distances = [self.eval_every]
        if search.watches_masks:
            distances.append(self.sync_every)
        steps = {
            step
            for distance in distances
            for step in range(start.clock // distance * distance, start.end, distance)
        }
        return sorted(s for s in {*steps, *start.keep, start.end} if start.clock < s <= start.end)

    def measure(self, on_the_way: bool = False) -> float:
        """The mean return of greedy episodes."""
        return mean(self.greedy_returns(on_the_way=on_the_way))

    def carried(self) -> Weights:
        """What the round after is to find besides its ticket."""
        kept: dict[str, Tensor] = {}
        wanted = self.study.reset.carried
        if "replay" in wanted:
            kept |= {f"replay.{k}": part for k, part in self.agent.contents().items()}
        if "optimizer" in wanted:
            kept |= {f"optimizer.{k}": t for k, t in self.agent.moments().items()}
        return kept


@dataclass
class Log:
    """The learning curve of one training."""

    window: int
    points: list[CurvePoint] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    values_at: int = -1
    loss: float = math.nan

    def add(self, agent: Agent, value: float) -> None:
        """One measurement, and what training came to since the last."""
        self.values_at, env_step = agent.at, agent.env_steps
        self.values.append(value)
        measured = {("eval", "return"): value}
        self.loss = agent.mean_loss()
        refuse_diverged(self.loss, agent)
        measured["train", "loss"] = self.loss
        if agent.returns:
            measured["train", "return"] = mean(agent.returns[-self.window :])
        self.points += [
            CurvePoint(step=agent.at, env_step=env_step, split=split, metric=metric, value=v)
            for (split, metric), v in measured.items()
        ]


def refuse_diverged(loss: float, agent: Agent) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the training loss became {loss} by step {agent.at}: lower trainer.lr "
            f"(now {agent.spec.lr}) or trainer.clip (now {agent.spec.clip})"
        )


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
