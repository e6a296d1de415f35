"""RLlib's DQN as it comes, on its new API stack."""

from __future__ import annotations

from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from peers import BATCH, BUFFER, CLIP, EPSILON_STEPS, GAMMA, HIDDEN, LR, RANDOM_STEPS, SYNC


class StockRLlib:
    """`envs` environments stepped together; an update after every so many of their steps."""

    def __init__(self, every: int, envs: int = 1, seed: int = 0):
        self.every = every
        self.algorithm = (
            DQNConfig()
            .environment("CartPole-v1")
            .env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
            .rl_module(
                model_config={
                    "fcnet_hiddens": [HIDDEN, HIDDEN],
                    "fcnet_activation": "relu",
                    "head_fcnet_hiddens": [],
                }
            )
            .training(
                train_batch_size=BATCH,
                lr=LR,
                gamma=GAMMA,
                dueling=False,
                double_q=True,
                grad_clip=CLIP,
                target_network_update_freq=SYNC * every,
                training_intensity=BATCH / every,
                num_steps_sampled_before_learning_starts=RANDOM_STEPS,
                epsilon=[(0, 1.0), (RANDOM_STEPS, 1.0), (RANDOM_STEPS + EPSILON_STEPS, 0.05)],
                replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": BUFFER},
            )
            .reporting(min_sample_timesteps_per_iteration=250, min_time_s_per_iteration=0)
            .debugging(log_level="ERROR", log_sys_usage=False, seed=seed)
            .build_algo()
        )
        self.sampled = 0
        while self.sampled < RANDOM_STEPS:
            self.iterate()

    def iterate(self) -> None:
        result = self.algorithm.train()
        self.sampled = int(result["env_runners"]["num_env_steps_sampled_lifetime"])

    def train(self, updates: int) -> int:
        before = self.sampled
        while self.sampled < before + updates * self.every:
            self.iterate()
        return (self.sampled - before) // self.every

    def net(self) -> nn.Module:
        learner = self.algorithm.learner_group._learner
        return Values(learner.module[DEFAULT_MODULE_ID].unwrapped())

    def stop(self) -> None:
        self.algorithm.stop()


class Values(nn.Module):
    """RLlib's module as a plain network: observations in, the value of each action out."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, obs: Tensor) -> Tensor:
        return self.module.compute_q_values({Columns.OBS: obs})["qf_preds"]
