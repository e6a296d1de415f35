"""How fast an agent trains: updates per CPU-second of both engines and of the loops people use.

    python benchmarks/dqn.py [--quick] [--turns N] [--learning] [--json FILE]

needs the group `benchmarks` (uv pip install --group benchmarks). All train the same network (two
layers of 128) on CartPole-v1 with batches of 64, an update after each environment step or after
every fourth, in one process, in turns; figures are medians over the turns, and ratios medians of
the turns' ratios. The tickets are those of a real lineage of 21 rounds of 25,000 steps, which the
compiled engine trains first, from the dense network to the last evaluation: that is timed whole.
What such a lineage takes the others is reckoned from their rates, and one evaluation a round.

With --learning some learn for a while from the same number of steps, and the returns of their
greedy policies are shown side by side: fast and wrong would be no use.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from peers import SYNC
from peers.jax_scan import JaxScan
from peers.plain_torch import PlainTorch
from peers.rllib_stock import StockRLlib
from peers.sb3 import StableBaselines3

from raylottery.lineage import grow
from raylottery.pruning import Masks
from raylottery.spec import Sweep, lineages, parse_sweep
from raylottery.store import Store
from raylottery.tickets import harvest
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.dqn import nets
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds, greedy


STUDY = """
name: benchmark
trainer:
  {{kind: dqn, engine: {engine}, env: CartPole-v1, hidden: [128, 128], length: {steps}ts,
   learning_starts: 1000, rollout: 8, updates: {updates}, envs: 8, batch_size: 64, n_step: 1,
   lr: 0.0005, lr_end: 1.0, target_every: {sync}it, tau: 1.0, clip: 10.0, epsilon_end: 0.05,
   epsilon_decay: 4000ts}}
prune: {{fraction: 0.2, rounds: 20}}
eval: {{every: 100%}}
seeds: [0]
"""
ROUND_STEPS = 25_000
ROUNDS = 21
DENSITIES = (1.0, 0.2, 0.05, 0.01)
EVERY = (1, 4)
STOCK, SB3 = "RLlib DQN, as it comes", "stable-baselines3"
COMPILED, RLLIB = "raylottery, compiled", "raylottery, rllib"
AGENTS = 32
ENDLESS = 10**9


def study(engine: str, every: int, steps: int) -> Sweep:
    return parse_sweep(STUDY.format(engine=engine, steps=steps, updates=8 // every, sync=SYNC))


class Ours:
    """A ticket on one of raylottery's engines."""

    def __init__(self, engine: str, every: int, ticket: Ticket | None, steps: int = ENDLESS):
        self.trainer: Any = make_trainer(study(engine, every, steps), gpu=False)
        self.take(ticket or dense(self.trainer, seed=0), seed=0)

    def take(self, ticket: Ticket, seed: int) -> None:
        total = self.trainer.spec.total_steps
        self.trainer.begin(
            Start(
                ticket=ticket, data_seed=seed, trunk_seed=seed, clock=0, end=total, length=total,
                previous=None, searching=False, next_masks=None,
            )
        )  # fmt: skip

    def train(self, updates: int) -> int:
        agent = self.trainer.agent
        agent.advance(agent.at + updates)
        return updates

    def net(self) -> nets.QNet:
        net = nets.build(self.trainer.spec, self.trainer.space)
        net.load_state_dict(dict(self.trainer.agent.weights()))
        return net

    def stop(self) -> None:
        self.trainer.close()


def dense(trainer: Any, seed: int) -> Ticket:
    weights = trainer.initial(seed)
    names = trainer.prunable(biases=False).names
    return Ticket(weights=weights, masks=Masks.dense(weights, names), unmasked=weights)


# A whole lineage


@dataclass
class Grown:
    """A lineage that was trained whole."""

    cpu_seconds: float
    rounds: list[float]
    """CPU-seconds of each."""
    tickets: dict[float, Ticket]
    """Of the rounds nearest to the densities, by their own."""


def grown(steps: int, rounds: int) -> Grown:
    sweep = study("compiled", 1, steps)
    sweep = sweep.model_copy(
        update={"prune": sweep.prune.model_copy(update={"rounds": rounds - 1})}
    )
    [lineage] = lineages(sweep)
    trainer = make_trainer(lineage.arm.study, gpu=False)
    trainer.initial(0)
    spent, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        extents = {lineage.rounds[0].key: (0,)}
        begun = time.process_time()
        for round, record in grow(lineage, trainer, store, sweep="benchmark", extents=extents):
            spent.append(time.process_time() - begun - sum(spent))
            found.append((record.result["density"], round))
        whole = time.process_time() - begun
        tickets = {}
        for wanted in DENSITIES:
            density, round = min(found, key=lambda one: abs(one[0] / wanted - 1))
            weights, masks = harvest(round.key, store)
            tickets[density] = Ticket(weights=weights, masks=masks, unmasked=weights)
    trainer.close()
    return Grown(whole, spent, tickets)


# Rates


@contextmanager
def cpu_time(into: list[float]) -> Iterator[None]:
    begun = time.process_time()
    yield
    into.append(time.process_time() - begun)


def speed(turns: int, tickets: dict[float, Ticket], share: float) -> list[dict]:
    """Updates per CPU-second of each, in turns."""
    last = min(tickets)
    rivals: dict[tuple[str, int, float], tuple[Any, int]] = {}
    for every in EVERY:
        loops: list[tuple[str, float, Any, int]] = [
            (STOCK, 1.0, StockRLlib(every), 300),
            (SB3, 1.0, StableBaselines3(every), 400),
            ("torch, in a single file", 1.0, PlainTorch(every), 600),
            (f"JAX, {AGENTS} agents in one scan", 1.0, JaxScan(every, AGENTS), 100 * AGENTS),
            (RLLIB, 1.0, Ours("rllib", every, None), 400),
            (RLLIB, last, Ours("rllib", every, tickets[last]), 400),
        ]
        loops += [
            (COMPILED, density, Ours("compiled", every, ticket), round(8000 / density**0.7))
            for density, ticket in tickets.items()
        ]
        for name, density, loop, updates in loops:
            rivals[name, every, density] = loop, round(share * updates)
    spent: dict[tuple[str, int, float], list[float]] = {key: [] for key in rivals}
    for turn in range(turns + 1):
        for key, (loop, updates) in rivals.items():
            taken: list[float] = []
            with cpu_time(taken):
                made = loop.train(updates)
            if turn:  # the first warms up
                spent[key].append(taken[0] / made)
    for loop, _ in rivals.values():
        loop.stop()
    rows = []
    for (name, every, density), costs in spent.items():
        row = {"loop": name, "every": every, "density": density, "turns": turns}
        row["updates_per_cpu_s"] = statistics.median(1 / cost for cost in costs)
        for base in (STOCK, SB3):
            others = spent[base, every, 1.0]
            row[f"over {base}"] = statistics.median(
                other / cost for other, cost in zip(others, costs, strict=True)
            )
        rows.append(row)
    return rows


def evaluation(turns: int) -> float:
    """CPU-seconds of 20 greedy episodes of 500 steps, stepped by gymnasium."""
    ours = Ours("compiled", 1, None, steps=30_000)
    ours.train(24_000)
    net, arena = ours.net(), Arena(ours.trainer.spec, evaluation_seeds(20))
    taken: list[float] = []
    for _ in range(turns):
        with cpu_time(taken):
            arena.play(greedy(net))
    ours.stop()
    return statistics.median(taken)


def whole_lineages(rates: list[dict], lineage: Grown, evaluating: float) -> list[dict]:
    """CPU-seconds of 21 rounds: measured for the compiled engine, reckoned for the others."""
    updates = ROUND_STEPS - 1000
    rows = [{"loop": COMPILED, "cpu_s": lineage.cpu_seconds, "measured": True}]
    by_loop: dict[str, list[float]] = {}
    for row in rates:
        if row["every"] == 1 and row["loop"] != COMPILED:
            by_loop.setdefault(row["loop"], []).append(row["updates_per_cpu_s"])
    for name, found in by_loop.items():
        # Where the last round was measured too: half way between it and the dense one.
        a_round = statistics.fmean(updates / rate for rate in found) + evaluating
        rows.append({"loop": name, "cpu_s": ROUNDS * a_round, "measured": False})
    of = {row["loop"]: row["cpu_s"] for row in rows}
    for row in rows:
        row[f"over {STOCK}"] = of[STOCK] / row["cpu_s"]
        row[f"over {SB3}"] = of[SB3] / row["cpu_s"]
    return rows


# Learning


def learning(steps: int, seeds: int) -> list[dict]:
    """Mean greedy return of some after so many steps."""
    arena = Arena(study("rllib", 1, steps).trainer, evaluation_seeds(20))

    def on(engine: str) -> Callable[[int], Any]:
        def make(seed: int) -> Ours:
            ours = Ours(engine, 1, None, steps=steps)
            ours.take(dense(ours.trainer, seed), seed)
            return ours

        return make

    made = {
        STOCK: lambda seed: StockRLlib(1, envs=8, seed=seed),
        RLLIB: on("rllib"),
        COMPILED: on("compiled"),
    }
    rows = []
    for name, make in made.items():
        returns = []
        for seed in range(seeds):
            rival = make(seed)
            marks = []
            for _ in range(5):
                rival.train((steps - 1000) // 5)
                marks.append(statistics.fmean(e.total for e in arena.play(greedy(rival.net()))))
            rival.stop()
            returns.append(statistics.fmean(marks))
        rows.append({"loop": name, "steps": steps, "returns": returns})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute, rough figures")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--learning", action="store_true", help="some minutes more")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("ray.rllib", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.init(
        address="local", include_dashboard=False, num_cpus=2, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    lineage = grown(2_000 if options.quick else ROUND_STEPS, ROUNDS)
    rates = speed(
        3 if options.quick else options.turns, lineage.tickets, 0.3 if options.quick else 1.0
    )
    for row in sorted(rates, key=lambda row: (row["every"], row["updates_per_cpu_s"])):
        sys.stdout.write(
            f"every {row['every']}  {row['loop']:30} density {row['density']:6.4f} "
            f"{row['updates_per_cpu_s']:9.0f} updates/CPU-s  {row[f'over {STOCK}']:7.1f}x RLlib  "
            f"{row[f'over {SB3}']:6.1f}x stable-baselines3\n"
        )
    wholes = [] if options.quick else whole_lineages(rates, lineage, evaluation(5))
    for row in wholes:
        sys.stdout.write(
            f"{ROUNDS} rounds of {ROUND_STEPS} steps  {row['loop']:30} {row['cpu_s']:8.1f} CPU-s "
            f"{'(measured)' if row['measured'] else '(reckoned)'}  "
            f"{row[f'over {STOCK}']:6.1f}x RLlib  {row[f'over {SB3}']:5.1f}x stable-baselines3\n"
        )
    learnt = learning(steps=10_000, seeds=3) if options.learning else []
    for row in learnt:
        means = ", ".join(f"{value:.0f}" for value in row["returns"])
        sys.stdout.write(
            f"{row['loop']:32} mean greedy return over {row['steps']} steps, by seed: {means}\n"
        )
    if options.json:
        found = {
            "speed": rates,
            "lineage": wholes,
            "rounds_cpu_s": lineage.rounds,
            "learning": learnt,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    ray.shutdown()


if __name__ == "__main__":
    main()
