"""Trains a masked DQN agent with RLlib, one ticket at a time.

A round begins as its ticket, its clock and the sweep's `reset` section say, and with nothing else:
one algorithm serves all rounds of a lineage, and gives what a new one would. Evaluation is greedy,
in environments of its own, from the same starts every time; its steps are not counted.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch._dynamo  # an optimizer's first step would import it: better here than in a round
from torch import Tensor

from raylottery.errors import TrainingError
from raylottery.pruning import apply_mask
from raylottery.pruning.prunable import Prunable
from raylottery.spec import DQNTrainer, Sweep, derive_seed
from raylottery.trainers.base import CurvePoint, Outcome, Scores, Start, Weights, digest
from raylottery.trainers.dqn import envs, nets
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds
from raylottery.trainers.dqn.replay import Replay
from raylottery.trainers.dqn.rllib.algorithm import TicketDQN, build
from raylottery.trainers.dqn.rllib.learner import Beginning, TicketLearner
from raylottery.trainers.dqn.rllib.runner import TransitionRunner
from raylottery.trainers.dqn.schedule import Schedule
from raylottery.trainers.stopping import Search


NORMALISER = ("obs_mean", "obs_var", "obs_count")


class RLlibDQN:
    """A solo trainer of the specification's agent in its environment."""

    capacity = 1

    def __init__(self, study: Sweep, device: torch.device):
        assert isinstance(study.trainer, DQNTrainer)
        self.study = study
        self.spec = study.trainer
        self.torch_device = device
        self.device = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.eval_every = self.spec.steps(study.eval.every)

    @functools.cached_property
    def space(self) -> envs.EnvSpaces:
        return envs.spaces(self.spec)

    @functools.cached_property
    def algorithm(self) -> TicketDQN:
        gpus = self.study.resources.gpus if self.torch_device.type == "cuda" else 0
        return build(self.spec, gpus)

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

    def prunable(self, *, biases: bool, exclude: Sequence[str] = ()) -> Prunable:
        return nets.layers(self._skeleton(), biases=biases, exclude=exclude)

    def positions(self) -> Mapping[str, int]:
        return nets.positions(self._build(), self.space)

    def total_params(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton().parameters())

    def initial(self, seed: int) -> Weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("weights", seed))
            return self._build().state_dict()

    def train(self, starts: Sequence[Start]) -> list[Outcome]:
        try:
            return [self._train(start) for start in starts]
        except Exception:
            self.close()  # the next round is not to meet processes that have failed
            raise

    def close(self) -> None:
        """Let go of the algorithm, its processes and all environments."""
        if "algorithm" in self.__dict__:
            self.algorithm.stop()
            del self.algorithm
        if "arenas" in self.__dict__:
            for arena in self.arenas:
                arena.close()
            del self.arenas

    def _build(self) -> nets.QNet:
        return nets.build(self.spec, self.space)

    def _skeleton(self) -> nets.QNet:
        with torch.device("meta"):
            return self._build()

    def _train(self, start: Start) -> Outcome:
        agent = self.algorithm  # a worker's first takes a while, which is no training
        begun = time.perf_counter()
        torch.set_num_threads(self.spec.threads)
        self.begin(start)

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
            met = step % agent.sync_every == 0 and search.settled(step, agent.weights)
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
        weights = agent.weights()
        self.check_copies(weights)
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
        )
        return Outcome(
            weights=weights,
            scores=scores,
            curve=log.points,
            revived=revived,
            seconds=time.perf_counter() - begun,
            snapshots=snapshots,
            stopped=stopped,
            carried=self.carried(),
            digests=digests,
        )

    def begin(self, start: Start) -> None:
        """Set up all that a round begins with, as the `reset` section says."""
        reset, previous = self.study.reset, start.previous
        ticket = start.ticket
        statistics = self.normaliser(start)
        target = ticket.unmasked
        if reset.target == "previous" and previous is not None:
            target = previous.weights
        if reset.target_mask == "same":
            target = apply_mask(target, ticket.masks)
        env_seed = start.trunk_seed if reset.env_seed == "same" else start.data_seed
        replay = Replay(self.spec, derive_seed("replay", env_seed))
        if reset.replay == "kept" and previous is not None:
            replay.add({k: t.numpy() for k, t in section(previous.carried, "replay").items()})
        moments: Weights = {}
        if reset.optimizer == "kept" and previous is not None:
            moments = section(previous.carried, "optimizer")
        explorer = start.trunk_seed if reset.exploration_seed == "same" else start.data_seed
        self.algorithm.begin(
            Beginning(
                weights={**ticket.weights, **statistics},
                target={**target, **statistics},
                masks=ticket.masks,
                masks_target=reset.target_mask == "same",
                step=start.clock,
                moments=moments,
            ),
            Schedule(self.spec, reset, start),
            replay,
            env_seed=env_seed,
            exploration_seed=explorer,
        )
        if previous is None or reset.learning_starts == "again":
            if previous is not None and reset.replay == "prefilled":
                self.algorithm.warm_up(self.spec.epsilon_end, previous.weights)
            else:
                self.algorithm.warm_up(1.0)

    def normaliser(self, start: Start) -> Weights:
        """The statistics of observations that a round begins with."""
        if not self.spec.normalise:
            return {}
        if self.study.reset.normaliser == "rewound":
            source = start.ticket.weights
        elif self.study.reset.normaliser == "kept" and start.previous is not None:
            source = start.previous.weights
        else:
            source = self._build().state_dict()
        return {name: source[name] for name in NORMALISER}

    def carried(self) -> Weights:
        """What the round after is to find besides its ticket."""
        kept: dict[str, Tensor] = {}
        wanted = self.study.reset.carried
        if "replay" in wanted:
            contents = self.algorithm.replay.contents()
            kept |= {f"replay.{k}": torch.from_numpy(part) for k, part in contents.items()}
        if "optimizer" in wanted:
            kept |= {f"optimizer.{k}": t for k, t in self.algorithm.moments().items()}
        return kept

    def milestones(self, start: Start, search: Search) -> list[int]:
        """The steps at which training pauses, to be measured or copied."""
        distances = [self.eval_every]
        if search.watches_masks:
            distances.append(self.algorithm.sync_every)
        steps = {
            step
            for distance in distances
            for step in range(start.clock // distance * distance, start.end, distance)
        }
        return sorted(s for s in {*steps, *start.keep, start.end} if start.clock < s <= start.end)

    def measure(self, on_the_way: bool = False) -> float:
        """The mean return of greedy episodes."""
        way, end = self.arenas
        self.net.load_state_dict(dict(self.algorithm.weights()), strict=True)
        return mean([episode.total for episode in (way if on_the_way else end).play(self.net)])

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


@dataclass
class Log:
    """The learning curve of one training."""

    window: int
    points: list[CurvePoint] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    values_at: int = -1
    loss: float = math.nan

    def add(self, agent: TicketDQN, value: float) -> None:
        """One measurement, and what training came to since the last."""
        self.values_at, env_step = agent.at, agent.env_steps
        self.values.append(value)
        measured = {("eval", "return"): value}
        self.loss = agent.mean_loss()
        if not math.isfinite(self.loss):
            raise TrainingError(
                f"the training loss became {self.loss} by step {agent.at}: lower trainer.lr "
                f"(now {agent.spec.lr}) or trainer.clip (now {agent.spec.clip})"
            )
        measured["train", "loss"] = self.loss
        if agent.returns:
            measured["train", "return"] = mean(agent.returns[-self.window :])
        self.points += [
            CurvePoint(step=agent.at, env_step=env_step, split=split, metric=metric, value=v)
            for (split, metric), v in measured.items()
        ]


def section(carried: Weights, name: str) -> Weights:
    """The part of what was carried whose names begin so."""
    start = f"{name}."
    return {k.removeprefix(start): t for k, t in carried.items() if k.startswith(start)}


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
