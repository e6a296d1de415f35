"""A small study, and starts of its rounds, for tests of the compiled engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Outcome, Start, Ticket, Weights, digest
from raylottery.trainers.dqn.compiled import CompiledDQN


STUDY = """
name: agents
trainer: {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [16], length: 64it,
          learning_starts: 64, envs: 4, rollout: 16, updates: 8, batch_size: 16, buffer: 200,
          n_step: 1, lr: 0.01, lr_end: 1.0, epsilon_decay: 50%, target_every: 1it, tau: 0.05}
prune: {fraction: 0.5, rounds: 1}
eval: {every: 16it, episodes: 2, final: 3}
seeds: [0]
"""
LENGTH = 64
LADDER = "trainer.env=tests.games:ladder"


def trainer_of(*changes: str) -> CompiledDQN:
    made = make_trainer(parse_sweep(STUDY, overrides=changes), gpu=False)
    assert isinstance(made, CompiledDQN)
    return made


def masks_of(weights: Weights, trainer: CompiledDQN, density: float = 0.5, seed: int = 1) -> Masks:
    """A share of every prunable tensor, biases too."""
    chance = torch.Generator().manual_seed(seed)
    names = trainer.prunable(biases=True).names
    return Masks({n: torch.rand(weights[n].shape, generator=chance) < density for n in names})


def ticket(trainer: CompiledDQN, masks: Masks | None = None) -> Ticket:
    weights = trainer.initial(0)
    masks = masks_of(weights, trainer) if masks is None else masks
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


def dense(trainer: CompiledDQN) -> Ticket:
    weights = trainer.initial(1)
    return ticket(trainer, Masks.dense(weights, trainer.prunable(biases=True).names))


def start(trainer: CompiledDQN, **fields: Any) -> Start:
    plain = Start(
        ticket=ticket(trainer),
        data_seed=7,
        trunk_seed=5,
        clock=0,
        end=LENGTH,
        length=LENGTH,
        previous=None,
        searching=True,
        next_masks=None,
    )
    return replace(plain, **fields)


def assert_same_outcome(a: Outcome, b: Outcome) -> None:
    assert digest(a.weights) == digest(b.weights)
    assert digest(a.carried) == digest(b.carried)
    assert repr(a.scores) == repr(b.scores)  # as no NaN equals another
    assert list(a.curve) == list(b.curve)
    assert a.digests == b.digests
    assert a.revived == b.revived == 0
