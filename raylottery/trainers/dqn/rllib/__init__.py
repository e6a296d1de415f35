"""The reference engine: DQN on RLlib's new API stack, with a learner that masks."""

from __future__ import annotations

from raylottery.trainers.dqn.rllib.trainer import RLlibDQN


__all__ = ["RLlibDQN"]
