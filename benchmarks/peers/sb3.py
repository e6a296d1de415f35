"""stable-baselines3's DQN as it comes, with the same settings. It knows no double DQN."""

from __future__ import annotations

import gymnasium
from stable_baselines3 import DQN

from peers import BATCH, BUFFER, CLIP, EPSILON_STEPS, GAMMA, HIDDEN, LR, RANDOM_STEPS, SYNC


class StableBaselines3:
    """One environment; an update after every so many of its steps."""

    def __init__(self, every: int):
        self.every = every
        horizon = 10**7
        self.model = DQN(
            "MlpPolicy",
            gymnasium.make("CartPole-v1"),
            learning_rate=LR,
            buffer_size=BUFFER,
            learning_starts=RANDOM_STEPS,
            batch_size=BATCH,
            tau=1.0,
            gamma=GAMMA,
            train_freq=every,
            gradient_steps=1,
            target_update_interval=SYNC * every,
            exploration_fraction=EPSILON_STEPS / horizon,
            exploration_final_eps=0.05,
            max_grad_norm=CLIP,
            policy_kwargs={"net_arch": [HIDDEN, HIDDEN]},
            seed=0,
            device="cpu",
        )
        self.model.learn(RANDOM_STEPS, log_interval=10**9)

    def train(self, updates: int) -> int:
        before = self.model._n_updates
        self.model.learn(updates * self.every, log_interval=10**9, reset_num_timesteps=False)
        return self.model._n_updates - before

    def stop(self) -> None:
        self.model.get_env().close()
