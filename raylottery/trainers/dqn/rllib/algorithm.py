"""RLlib's DQN algorithm, with a training step that makes exactly the updates it is asked for.

Experience goes from the runners into a flat buffer and from there, as ready batches, to the
learners. One algorithm trains round after round: `begin` leaves nothing of the round before.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import ray
import torch
from ray.exceptions import RayTaskError
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from raylottery.errors import TrainingError
from raylottery.spec import DQNTrainer, derive_seed
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.replay import Replay
from raylottery.trainers.dqn.resets import Beginning, Experience
from raylottery.trainers.dqn.rllib.learner import TicketLearner, nonzero
from raylottery.trainers.dqn.rllib.module import QModule
from raylottery.trainers.dqn.rllib.runner import Sample, TransitionRunner, gym_spaces
from raylottery.trainers.dqn.schedule import Schedule


QUIET = ("ray.rllib", "ray._common.deprecation", "ray.tune", "ray.train")


class TicketDQN(DQN):
    """Collects and learns, from one point of the schedule to another."""

    # Never None once it is set up, whatever RLlib allows for other algorithms.
    env_runner_group: EnvRunnerGroup  # ty: ignore[incompatible-mutable-override]
    learner_group: LearnerGroup  # ty: ignore[incompatible-mutable-override]

    def setup(self, config) -> None:
        super().setup(config)
        assert self.config is not None
        self.spec = DQNTrainer.model_validate_json(self.config.model_config["trainer"])

    def _setup_logdir(self) -> None:
        """Nothing is logged, so no folder is made for it in the user's home."""

    def begin(self, beginning: Beginning, experience: Experience, schedule: Schedule) -> None:
        """Take a ticket and an empty or kept buffer, and collect what comes before its updates."""
        self.schedule = schedule
        self.masks = beginning.masks
        self.replay = Replay(self.spec, derive_seed("replay", experience.env_seed))
        self.replay.add({name: part.numpy() for name, part in experience.kept.items()})
        self.at = beginning.step
        self.due = 0
        """Updates left until experience is collected again."""
        self.env_steps = 0
        self.returns: list[float] = []
        self.on_learners(TicketLearner.begin, beginning=beginning)
        seeds = experience.env_seed, experience.exploration_seed
        self.on_runners(lambda runner: runner.begin(*seeds))
        if experience.warm_up is not None:
            steps = self.spec.learning_starts // self.spec.lanes
            self.collect(np.full(steps, experience.warm_up), experience.explorer)
        self.stale = True

    def training_step(self) -> None:
        """Train to the step that is the next goal."""
        while self.at < self.goal:
            if self.due == 0:
                steps = np.arange(self.spec.rollout // self.spec.lanes) * self.spec.lanes
                passed = self.at + steps * (self.spec.updates / self.spec.rollout)
                self.refresh()
                self.collect(self.schedule.epsilons(passed))
                self.due = self.spec.updates
            count = min(self.due, self.goal - self.at)
            self.learn(count)
            self.at += count
            self.due -= count

    def advance(self, goal: int) -> None:
        """Train up to a step of the schedule."""
        self.goal = goal
        self.training_step()
        self.refresh()

    def collect(self, epsilons: np.ndarray, weights: Weights | None = None) -> None:
        samples: list[Sample] = self.on_runners(
            partial(sampled, epsilons=epsilons, weights=weights)
        )
        for sample in samples:
            self.replay.add(sample.transitions)
            self.returns += sample.returns
        if self.spec.normalise:
            self.normalise(np.concatenate([s.transitions["next_obs"] for s in samples]))
        self.env_steps += len(epsilons) * self.spec.lanes

    def normalise(self, obs: np.ndarray) -> None:
        if len(obs) == 0:
            return  # all that was seen still waits for the rewards of n steps
        mean, var = obs.mean(axis=0), obs.var(axis=0)
        self.on_learners(TicketLearner.observe, mean=mean, var=var, count=len(obs))
        self.stale = True

    def learn(self, count: int) -> None:
        """So many updates, on batches that are drawn anew after each where priorities matter."""
        lrs = self.schedule.lrs(np.arange(self.at, self.at + count)).tolist()
        last_counts = self.at + count == self.goal
        if self.spec.priority:
            for lr in lrs:
                batch, places = self.replay.draw_by_priority(self.spec.batch_size)
                errors = self.on_learners(
                    TicketLearner.learn, batches=[batch], lrs=[lr], last_counts=last_counts
                )
                self.replay.reprioritise(places, interleaved(errors))
        else:
            batches = self.replay.draw(count, self.spec.batch_size)
            self.on_learners(
                TicketLearner.learn, batches=batches, lrs=lrs, last_counts=last_counts
            )
        self.stale = True

    def refresh(self) -> None:
        """Give the runners the learner's weights, if they have older ones."""
        if not self.stale:
            return
        self.stale = False
        if self.spec.runners == 0 and self.learner_group.is_local:  # both are in this process
            runner = cast("TransitionRunner", self.env_runner_group.local_env_runner)
            learner = cast("TicketLearner", self.learner_group._learner)
            copy_into(runner.q.net, learner.q.net)
            return
        reference = ray.put(self.weights())
        self.on_runners(partial(given, reference=reference))

    def weights(self) -> Weights:
        """Those of the online network, on the CPU."""
        return self.on_first_learner(TicketLearner.weights)

    def moments(self) -> Weights:
        """Those of the optimizer, on the CPU."""
        return self.on_first_learner(TicketLearner.moments)

    def contents(self) -> Weights:
        return {name: torch.from_numpy(part) for name, part in self.replay.contents().items()}

    def mean_loss(self) -> float:
        """Of the updates since it was last asked."""
        losses = self.on_learners(TicketLearner.mean_loss)
        return sum(losses) / len(losses)

    def count_revived(self) -> int:
        """Pruned weights that are not zero, in any network of any process."""
        masks = self.masks
        self.refresh()
        acting = self.on_runners(lambda runner: nonzero(runner.weights(), masks))
        return sum(self.on_learners(TicketLearner.count_revived)) + sum(acting)

    def on_first_learner(self, call) -> Any:
        """All learners have the same; one needs to answer."""
        return self.on_learners(call)[0]

    def on_learners(self, call, **arguments) -> list[Any]:
        """What each learner answers, in order; an error is raised."""
        results = list(self.learner_group.foreach_learner(call, **arguments))
        with original_errors():
            for result in results:
                if not result.ok:
                    raise result.get()
        return complete([result.get() for result in results], self.spec.learners, "learners")

    def on_runners(self, call) -> list[Any]:
        """What each runner answers, in order; an error is raised."""
        with original_errors():
            answers = self.env_runner_group.foreach_env_runner(
                call, local_env_runner=self.spec.runners == 0
            )
        return complete(answers, self.spec.runners, "env runners")


@contextmanager
def original_errors() -> Generator[None]:
    """Raises what another process raised, rather than Ray's account of it, which is chained."""
    try:
        yield
    except RayTaskError as error:
        raise error.cause from error


def complete(answers: list[Any], processes: int, what: str) -> list[Any]:
    """The answers, which RLlib cuts short without a word once a process has failed."""
    if len(answers) != max(1, processes):
        raise TrainingError(
            f"{processes - len(answers)} of {processes} {what} failed before and answer no more. "
            f"Nothing of this round was kept; run the sweep again"
        )
    return answers


def sampled(runner: TransitionRunner, epsilons: np.ndarray, weights: Weights | None) -> Sample:
    return runner.collect(epsilons, weights)


def given(runner: TransitionRunner, reference: ray.ObjectRef) -> None:
    weights = ray.get(reference) if isinstance(reference, ray.ObjectRef) else reference
    runner.q.net.load_state_dict(dict(weights), strict=True)


@torch.no_grad()
def copy_into(net: torch.nn.Module, source: torch.nn.Module) -> None:
    """Weights and buffers from one network to its twin, whatever device either is on."""
    ours, theirs = net.state_dict(), source.state_dict()
    torch._foreach_copy_(list(ours.values()), list(theirs.values()))


def interleaved(errors: Sequence[np.ndarray]) -> np.ndarray:
    """The learners' shares of a batch, put back in its order."""
    whole = np.empty(sum(map(len, errors)), errors[0].dtype)
    for i, part in enumerate(errors):
        whole[i :: len(errors)] = part
    return whole


def build(spec: DQNTrainer, gpus: float) -> TicketDQN:
    """The algorithm of a specification, on the Ray that is up."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    box, discrete = gym_spaces(envs.spaces(spec))
    placed = ray.util.get_current_placement_group() is not None
    config = (
        DQNConfig(algo_class=TicketDQN)
        .environment(TicketDQN.__name__, observation_space=box, action_space=discrete)
        .env_runners(
            env_runner_cls=TransitionRunner,
            num_env_runners=spec.runners,
            num_cpus_per_env_runner=1 if placed else 0,
            rollout_fragment_length=spec.n_step,
        )
        .learners(
            learner_class=TicketLearner,
            num_learners=spec.learners,
            num_cpus_per_learner=1 if placed else 0,
            num_gpus_per_learner=gpus / max(1, spec.learners),
        )
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=QModule, model_config={"trainer": spec.model_dump_json()}
            ),
            model_config={"trainer": spec.model_dump_json()},
        )
        .training(
            gamma=spec.gamma,
            double_q=spec.double,
            num_atoms=spec.atoms,
            v_min=-spec.value_range,
            v_max=spec.value_range,
            n_step=spec.n_step,
            td_error_loss_fn="huber" if spec.loss == "huber" else "mse",
            grad_clip=spec.clip,  # ty: ignore[invalid-argument-type] (RLlib clips by any number)
            grad_clip_by="global_norm",
            train_batch_size=spec.batch_size,
            # Never used, as ours is flat; but RLlib makes one.
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1},
        )
        .framework("torch", torch_skip_nan_gradients=True)  # a mean loss tells of them instead
        .fault_tolerance(restart_failed_env_runners=False)
        .debugging(log_level="ERROR", log_sys_usage=False)
    )
    return cast("TicketDQN", config.build_algo())
