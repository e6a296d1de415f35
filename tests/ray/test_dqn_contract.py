"""What every trainer promises a lineage, asked of the agents that RLlib trains."""

from __future__ import annotations

import pytest

from raylottery.spec import parse_sweep
from tests.contract.test_trainers import *  # noqa: F403 (its tests and their fixtures)


AGENTS = {
    "plain": "n_step: 1",
    "rainbow": "n_step: 3, priority: 0.6, dueling: true, atoms: 11, weight_decay: 0.01",
    "hard-target": "n_step: 1, double: false, loss: squared, tau: 1.0, clip: 0.1",
}


@pytest.fixture(params=list(AGENTS.values()), ids=list(AGENTS), scope="module")
def study(request, local_ray):
    return parse_sweep(f"""
name: contract
trainer: {{kind: dqn, env: CartPole-v1, hidden: [64], length: 70it, learning_starts: 64, envs: 4,
           rollout: 16, updates: 4, batch_size: 16, buffer: 500, lr: 0.01, target_every: 5it,
           {request.param}}}
prune: {{fraction: 0.5, rounds: 1}}
eval: {{every: 10it, episodes: 2, final: 3}}
seeds: [0]
""")
