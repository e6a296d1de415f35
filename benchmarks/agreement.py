"""Do the two engines of an agent learn alike? Learning curves of one spec on both, side by side.

    python benchmarks/agreement.py [--seeds 10] [--store DIR] [--json FILE] [--quick]

The arms differ in `trainer.engine` alone: CartPole-v1 with the shipped settings, a dense network
and one ticket at 20 % density. A run that is cut off goes on where it was. The engines draw their
chance in different ways, so that no two trainings are equal: what can agree is their distribution.
Printed are the means of each measurement over the seeds with their Student intervals of 95 %, and
whether these overlap; then the difference of the scores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from raylottery import load
from raylottery.analysis.stats import group_mean, paired_difference


NAME = "agreement"
STUDY = """
name: {name}
trainer: {{kind: dqn, env: CartPole-v1, length: {length}}}
prune: {{fraction: 0.8, rounds: 1}}
eval: {{every: 10%}}
seeds: {seeds}
axes:
  trainer.engine: [rllib, compiled]
"""
ENGINES = ("rllib", "compiled")


def run(study: str, store: Path) -> None:
    store.mkdir(parents=True, exist_ok=True)
    sweep = store / f"{NAME}.yaml"
    sweep.write_text(study)
    command = [Path(sys.executable).with_name("raylottery"), "run", sweep, "--store", store]
    subprocess.run(command, check=True)


def side_by_side(curves: pd.DataFrame) -> list[dict]:
    """One row for each measurement, both engines beside each other."""
    rows = []
    for (index, step), part in curves.groupby(["round", "step"]):
        row: dict = {"round": index, "step": step}
        for engine in ENGINES:
            row[engine] = asdict(group_mean(part[part["trainer.engine"] == engine]["value"]))
        (low, high), (least, most) = (reach(row[engine]) for engine in ENGINES)
        row["overlap"] = low <= most and least <= high
        rows.append(row)
    return rows


def differences(rounds: pd.DataFrame) -> list[dict]:
    """Of the scores, seed by seed: the compiled engine's minus RLlib's."""
    rows = []
    for index, part in rounds.groupby("round"):
        scores = part.pivot(index="seed", columns="trainer.engine", values="score")
        found = {engine: asdict(group_mean(scores[engine])) for engine in ENGINES}
        found["difference"] = asdict(paired_difference(scores["compiled"], scores["rllib"]))
        rows.append({"round": index, **found})
    return rows


def reach(estimate: dict) -> tuple[float, float]:
    """An interval's ends; of seeds that all agree, their value."""
    mean, low, high = (estimate[name] for name in ("mean", "low", "high"))
    return (mean, mean) if low is None else (low, high)


def shown(estimate: dict) -> str:
    low, high = reach(estimate)
    return f"{estimate['mean']:6.1f} [{low:6.1f}, {high:6.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--store", type=Path, default=Path("results/agreement"))
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--quick", action="store_true", help="a minute, rough figures")
    options = parser.parse_args()
    seeds = 3 if options.quick else options.seeds
    length = "5000ts" if options.quick else "50000ts"
    run(STUDY.format(name=NAME, length=length, seeds=list(range(seeds))), options.store)

    frame = load(NAME, store=options.store)
    rows = side_by_side(frame.curves.query("split == 'eval' and metric == 'return'"))
    scores = differences(frame.rounds)
    sys.stdout.write(f"mean greedy return on the way, n = {seeds} seeds an engine\n")
    for row in rows:
        each = "   ".join(f"{engine} {shown(row[engine])}" for engine in ENGINES)
        agrees = "overlap" if row["overlap"] else "APART"
        sys.stdout.write(f"round {row['round']} update {row['step']:6}   {each}   {agrees}\n")
    sys.stdout.write("scores: mean return of 20 greedy episodes of the last weights\n")
    for row in scores:
        each = "   ".join(f"{name} {shown(row[name])}" for name in (*ENGINES, "difference"))
        sys.stdout.write(f"round {row['round']}   {each}\n")
    overlapping = sum(row["overlap"] for row in rows)
    sys.stdout.write(f"{overlapping} of {len(rows)} pairs of intervals overlap\n")
    if options.json:
        figures = {"seeds": seeds, "curves": rows, "scores": scores}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
