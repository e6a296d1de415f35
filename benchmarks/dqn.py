"""How fast a DQN lineage trains on RLlib, against RLlib's own DQN: updates per CPU-second.

    python benchmarks/dqn.py [--quick] [--json FILE]

Both train the same network (two layers of 128) on CartPole-v1 with the same batch, one update for
each environment step, in one process, in turns; figures are medians over the turns, and ratios
medians of the turns' ratios. Then both learn for a while from the same number of steps, and the
returns of their greedy policies are shown side by side: fast and wrong would be no use.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import DQNTrainer, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds
from raylottery.trainers.dqn.replay import Replay
from raylottery.trainers.dqn.rllib.algorithm import TicketDQN
from raylottery.trainers.dqn.rllib.learner import TicketLearner
from raylottery.trainers.dqn.rllib.module import QModule


ENVS = 8
STUDY = """
name: benchmark
trainer:
  {{kind: dqn, env: CartPole-v1, hidden: [128, 128], length: {steps}ts, learning_starts: 1000,
   rollout: 8, updates: 8, envs: 8, batch_size: 64, n_step: 1, lr: 0.0005, lr_end: 1.0,
   target_every: 500it, tau: 1.0,
   clip: 10.0, epsilon_end: 0.05, epsilon_decay: 4000ts}}
prune: {{fraction: 0.2, rounds: 1}}
eval: {{every: 100%}}
seeds: [0]
"""


class Ours:
    """A ticket at half density, on raylottery's RLlib engine."""

    def __init__(self, steps: int, seed: int = 0):
        self.trainer = make_trainer(parse_sweep(STUDY.format(steps=steps)), gpu=False)
        weights = self.trainer.initial(seed)
        generator = torch.Generator().manual_seed(seed)
        names = self.trainer.prunable(biases=False).names
        masks = Masks({n: torch.rand(weights[n].shape, generator=generator) < 0.5 for n in names})
        total = self.trainer.spec.total_steps
        ticket = Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)
        self.trainer.begin(
            Start(
                ticket=ticket, data_seed=seed, trunk_seed=seed, clock=0, end=total, length=total,
                previous=None, searching=False, next_masks=None,
            )
        )  # fmt: skip

    def train(self, updates: int) -> None:
        agent = self.trainer.algorithm
        agent.advance(agent.at + updates)

    def net(self) -> nn.Module:
        return self.trainer.algorithm.learner_group._learner.q.net

    def stop(self) -> None:
        self.trainer.close()


class Stock:
    """RLlib's DQN as it comes; `envs` of them stepped together, with as many updates."""

    def __init__(self, envs: int, seed: int = 0):
        self.algorithm = (
            DQNConfig()
            .environment("CartPole-v1")
            .env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
            .rl_module(
                model_config={
                    "fcnet_hiddens": [128, 128],
                    "fcnet_activation": "relu",
                    "head_fcnet_hiddens": [],
                }
            )
            .training(
                train_batch_size=64,
                lr=0.0005,
                gamma=0.99,
                dueling=False,
                double_q=True,
                grad_clip=10.0,
                target_network_update_freq=500,
                training_intensity=64,
                num_steps_sampled_before_learning_starts=1000,
                epsilon=[(0, 1.0), (1000, 1.0), (5000, 0.05)],
                replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
            )
            .reporting(min_sample_timesteps_per_iteration=250, min_time_s_per_iteration=0)
            .debugging(log_level="ERROR", log_sys_usage=False, seed=seed)
            .build_algo()
        )
        self.sampled = 0
        while self.sampled < 1000:
            self.iterate()

    def iterate(self) -> None:
        result = self.algorithm.train()
        self.sampled = int(result["env_runners"]["num_env_steps_sampled_lifetime"])

    def train(self, updates: int) -> None:
        goal = self.sampled + updates
        while self.sampled < goal:
            self.iterate()

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


def speed(turns: int, updates: int) -> list[dict]:
    """Updates per CPU-second of each, in turns."""
    rivals = {
        "RLlib DQN, as it comes": Stock(envs=1),
        f"RLlib DQN, {ENVS} environments": Stock(envs=ENVS),
        "raylottery on RLlib": Ours(10**9),
    }
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(turns + 1):
        for name, rival in rivals.items():
            begun = time.process_time()
            rival.train(updates)
            if turn:  # the first warms up
                rates[name].append(updates / (time.process_time() - begun))
    for rival in rivals.values():
        rival.stop()
    base = rates["RLlib DQN, as it comes"]
    return [
        {
            "loop": name,
            "updates_per_cpu_s": statistics.median(measured),
            "ratio": statistics.median(m / b for m, b in zip(measured, base, strict=True)),
            "turns": turns,
        }
        for name, measured in rates.items()
    ]


PARTS = {
    "acting and stepping environments": (TicketDQN, "collect"),
    "drawing batches": (Replay, "draw"),
    "batches to tensors": (TicketLearner, "mine"),
    "forward": (QModule, "_forward_train"),
    "loss": (TicketLearner, "compute_losses"),
    "backward": (TicketLearner, "compute_gradients"),
    "masking gradients, clipping": (TicketLearner, "postprocess_gradients"),
    "Adam, masking weights": (TicketLearner, "apply_gradients"),
    "target network": (TicketLearner, "sync_target"),
    "weights to the runner": (TicketDQN, "refresh"),
}


def breakdown(updates: int) -> list[dict]:
    """Where the time of our loop goes."""
    spent = dict.fromkeys(PARTS, 0.0)
    originals = {name: getattr(*place) for name, place in PARTS.items()}

    def timed(name: str) -> Callable:
        def call(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return originals[name](*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begun

        return call

    ours = Ours(10**9)
    ours.train(200)
    for name, (owner, method) in PARTS.items():
        setattr(owner, method, timed(name))
    begun = time.perf_counter()
    ours.train(updates)
    whole = time.perf_counter() - begun
    for name, (owner, method) in PARTS.items():
        setattr(owner, method, originals[name])
    ours.stop()
    rows = [{"part": name, "share": part / whole} for name, part in spent.items()]
    return [*rows, {"part": "the rest", "share": 1 - sum(row["share"] for row in rows)}]


def learning(steps: int, seeds: int) -> list[dict]:
    """Mean greedy return of each after so many steps."""
    spec = parse_sweep(STUDY.format(steps=steps)).trainer
    assert isinstance(spec, DQNTrainer)
    arena = Arena(spec, evaluation_seeds(20))
    made = {
        f"RLlib DQN, {ENVS} environments": lambda seed: Stock(envs=ENVS, seed=seed),
        "raylottery on RLlib": lambda seed: Ours(steps, seed=seed),
    }
    rows = []
    for name, make in made.items():
        returns = []
        for seed in range(seeds):
            rival = make(seed)
            marks = []
            for _ in range(5):
                rival.train((steps - 1000) // 5)
                marks.append(statistics.fmean(e.total for e in arena.play(rival.net())))
            rival.stop()
            returns.append(statistics.fmean(marks))
        rows.append({"loop": name, "steps": steps, "seeds": seeds, "returns": returns})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, rough figures")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level="ERROR")
    rates = speed(turns=3 if options.quick else 9, updates=200 if options.quick else 500)
    for row in rates:
        sys.stdout.write(
            f"{row['loop']:32} {row['updates_per_cpu_s']:8.0f} updates/CPU-s  "
            f"{row['ratio']:5.1f}x  (median of {row['turns']})\n"
        )
    parts = breakdown(1000 if options.quick else 5000)
    for row in parts:
        sys.stdout.write(f"    {row['part']:36} {row['share']:6.1%}\n")
    learnt = [] if options.quick else learning(steps=10_000, seeds=3)
    for row in learnt:
        means = ", ".join(f"{value:.0f}" for value in row["returns"])
        sys.stdout.write(
            f"{row['loop']:32} mean greedy return over {row['steps']} steps, by seed: {means}\n"
        )
    if options.json:
        options.json.write_text(
            json.dumps({"speed": rates, "parts": parts, "learning": learnt}, indent=1)
        )
    ray.shutdown()


if __name__ == "__main__":
    main()
