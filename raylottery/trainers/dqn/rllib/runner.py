"""An env runner that gives transitions ready for the buffer, instead of episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable

from raylottery.spec import DQNTrainer, derive_seed
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.lanes import Lanes
from raylottery.trainers.dqn.replay import Assembler, Transitions, stack
from raylottery.trainers.dqn.rllib.module import QModule


@dataclass
class Sample:
    """What a runner saw."""

    transitions: Transitions
    returns: list[float] = field(default_factory=list)
    """Of the episodes that ended, in order."""


class TransitionRunner(EnvRunner, Checkpointable):
    """Acts in a few environments at once with the Q-network it was last given."""

    def __init__(self, *, config, **kwargs):
        super().__init__(config=config, **kwargs)
        torch.set_num_threads(1)
        self.spec = DQNTrainer.model_validate_json(self.config.model_config["trainer"])
        self.space = envs.spaces(self.spec)
        self.make_module()

    def make_module(self) -> None:
        spec = self.config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()

    @property
    def q(self) -> QModule:
        return cast("QModule", self.module)

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        single = gym_spaces(self.space)
        keys = (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES, DEFAULT_MODULE_ID)
        return dict.fromkeys(keys, single)

    def begin(self, env_seed: int, exploration_seed: int) -> None:
        """Start afresh: environments, exploration and half-done transitions."""
        self.stop()
        index = max(0, (self.worker_index or 0) - 1)
        lanes = range(index * self.spec.envs, (index + 1) * self.spec.envs)
        self.env = Lanes(self.spec, [derive_seed("env", env_seed, lane) for lane in lanes])
        self.chance = np.random.default_rng(derive_seed("explore", exploration_seed, index))
        self.assembler = Assembler(self.spec.envs, self.spec.n_step, self.spec.gamma)
        self.running = np.zeros(self.spec.envs)
        self.obs = self.env.reset()

    def sample(self, **kwargs) -> Sample:
        return self.collect(**kwargs)

    def collect(self, epsilons: np.ndarray, weights: Weights | None = None) -> Sample:
        """One step of every environment for each share of random actions."""
        assert self.env is not None, "it was not told to begin"
        if weights is not None:
            self.q.net.load_state_dict(dict(weights), strict=True)
        done: list[tuple] = []
        returns: list[float] = []
        for epsilon in epsilons:
            obs = self.obs
            actions = self.act(obs, epsilon)
            self.obs, after, rewards, terminated, truncated = self.env.step(actions)
            self.running += rewards
            for lane in range(len(actions)):
                ends = terminated[lane] or truncated[lane]
                done += self.assembler.add(
                    lane, obs[lane], actions[lane], rewards[lane], after[lane],
                    terminated[lane], truncated[lane],
                )  # fmt: skip
                if ends:
                    returns.append(float(self.running[lane]))
                    self.running[lane] = 0.0
        return Sample(stack(done, self.space.shape, self.space.dtype), returns)

    def act(self, obs: np.ndarray, epsilon: float) -> np.ndarray:
        """Greedy actions, some replaced by random ones; chance is used up alike in any case."""
        random = self.chance.random(len(obs)) < epsilon
        actions = self.chance.integers(self.space.actions, size=len(obs))
        if not random.all():
            with torch.no_grad():
                greedy = self.q.net(torch.from_numpy(obs)).argmax(dim=-1).numpy()
            actions = np.where(random, actions, greedy)
        return actions

    def weights(self) -> Weights:
        """Those it acts with."""
        return {name: tensor.clone() for name, tensor in self.q.net.state_dict().items()}

    def get_state(self, components=None, *, not_components=None, **kwargs) -> dict:
        return {COMPONENT_RL_MODULE: self.module.get_state()}

    def set_state(self, state: dict) -> None:
        module = state.get(COMPONENT_RL_MODULE, {})
        if isinstance(module, ray.ObjectRef):
            module = ray.get(module)
        if module:
            self.module.set_state(module.get(DEFAULT_MODULE_ID, module))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict]:
        return (), {"config": self.config}

    def apply(self, func, *args, **kwargs):
        """What is raised goes to the caller; RLlib would end the process, and tell no cause."""
        return func(self, *args, **kwargs)

    def assert_healthy(self) -> None:
        assert self.module is not None

    def stop(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None


def gym_spaces(space: envs.EnvSpaces) -> tuple[gym.Space, gym.Space]:
    """What the network sees and gives, as gymnasium says it."""
    high = 255 if space.dtype == "uint8" else np.inf
    low = 0 if space.dtype == "uint8" else -np.inf
    box = gym.spaces.Box(low, high, space.shape, np.dtype(space.dtype).type)
    return box, gym.spaces.Discrete(space.actions)
