"""Is it the mask or the weights? A ticket and its controls on MNIST-1D, in the order expected.

    python benchmarks/decomposition.py [--store DIR] [--json FILE] [--quick]

Runs sweeps/decomposition-mnist1d.yaml; a run that is cut off goes on where it was. Everything is
read at the same density on a straight line in log density, between rounds that have controls:
tickets too, so that the lines are equally long on both sides. Differences are paired by seed, with
Student intervals of 95 %, and p is corrected over all that are asserted (Holm).

Exits 1 where an interval of the order includes zero, or a mean is further than 4 points from what
the same protocol gave before this package existed. `--quick` trains 5 seeds, too few for some of
the intervals: of them the order of the means is asserted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from raylottery import load
from raylottery.analysis.matched import curves
from raylottery.analysis.stats import group_mean, holm, paired_difference
from raylottery.analysis.words import percent


NAME = "decomposition-mnist1d"
SWEEP = Path(__file__).parents[1] / "sweeps" / f"{NAME}.yaml"
EVERY = 3
"""Rounds from one that has controls to the next."""
SCOPES = ("layerwise", "global")
DENSITIES = (0.15, 0.07)
PAPER = {
    "ticket": "mask/weights",
    "permuted-weights": "mask/permuted",
    "reinit": "mask/reinit",
    "permuted-both": "permuted/permuted",
    "random-global": "random/re-init",
}
"""What Vischer et al. call a ticket and its controls."""
ORDER = (
    ("ticket", "permuted-weights"),
    ("ticket", "reinit"),
    ("permuted-both", "random-global"),
)
"""What is asserted: the first is above the second."""
TOLD = (("permuted-weights", "permuted-both"), ("reinit", "permuted-both"))
"""Differences that are told alone."""
NEAR = 4.0
"""Points that a mean may be away from the earlier one."""

EARLIER = {
    "layerwise": {
        0.280: (62.1, 58.2, 59.7, 57.1, 54.4),
        0.151: (61.1, 55.1, 54.7, 53.3, 47.8),
        0.083: (57.7, 50.1, 48.7, 47.1, 42.9),
        0.047: (51.2, 44.4, 43.2, 37.6, 28.8),
    },
    "global": {
        0.262: (60.9, 58.7, 59.0, 55.6, 54.3),
        0.134: (60.8, 55.3, 54.0, 50.8, 48.0),
        0.069: (56.2, 48.5, 47.8, 43.2, 37.7),
        0.035: (47.7, 40.5, 39.8, 32.4, 22.8),
    },
}
"""Test accuracy in percent by scope and density, in the order of `PAPER`: means of 5 seeds of a
single script of ours in torch, with the same network, optimizer, batches and rounds, which shares
no code with this package and draws other chance."""


def run(store: Path, overrides: Sequence[str]) -> None:
    command = [Path(sys.executable).with_name("raylottery"), "run", SWEEP, "--store", store]
    subprocess.run([*command, *(f"--set={each}" for each in overrides)], check=True)


def matched(rounds: pd.DataFrame, density: float) -> pd.DataFrame:
    """Scores in percent at a density: one row a seed, one column a control."""
    found = curves(rounds[rounds["round"] % EVERY == 0], metric="score")
    table = found.table.assign(score=100 * found.at(density)[0])
    return table.pivot(index="seed", columns="control", values="score")[[*PAPER]]


def earlier(scope: str, density: float) -> dict[str, float]:
    """What the earlier measurement says at a density, read as ours is."""
    rows = [
        {"lineage": scope, "control": control, "round": EVERY * place, "density": kept}
        | {"score": score / 100}
        for place, (kept, scores) in enumerate(EARLIER[scope].items())
        for control, score in zip(PAPER, scores, strict=True)
    ]
    same = {"lineage_mode": "branch", "draw": 0, "seed": 0, "prunable": 1, "steps": 1500}
    rounds = pd.DataFrame(rows).assign(**same, metric="accuracy")
    return matched(rounds, density).loc[0].to_dict()


def measured(rounds: pd.DataFrame) -> list[dict]:
    """One row for each scope and density: means, and what is subtracted from what."""
    rows = []
    for scope in SCOPES:
        for density in DENSITIES:
            scores = matched(rounds[rounds["prune.scope"] == scope], density)
            means = {control: asdict(group_mean(scores[control])) for control in PAPER}
            differences = {
                f"{PAPER[one]} - {PAPER[other]}": asdict(
                    paired_difference(scores[one], scores[other])
                )
                for one, other in (*ORDER, *TOLD)
            }
            rows.append(
                {"scope": scope, "density": density, "means": means}
                | {"earlier": earlier(scope, density), "differences": differences}
            )
    return rows


def corrected(rows: Sequence[dict]) -> float:
    """The largest p of what is asserted, after Holm's correction over all of it."""
    asserted = [f"{PAPER[one]} - {PAPER[other]}" for one, other in ORDER]
    found = holm([row["differences"][name]["p"] for row in rows for name in asserted])
    return max(p for p in found if p is not None)


def faults(rows: Sequence[dict], *, by: str = "low") -> list[str]:
    """What of the order does not hold, and which means are too far from the earlier ones.

    Args:
        by: what of a difference has to be above zero: `low`, where its interval begins, or `mean`.
    """
    found = []
    for row in rows:
        where = f"{row['scope']}, {percent(row['density'])} density"
        for one, other in ORDER:
            estimate = row["differences"][f"{PAPER[one]} - {PAPER[other]}"]
            if estimate[by] is None or estimate[by] <= 0:
                text = f"{PAPER[one]} is not shown to be above {PAPER[other]}"
                found.append(f"{where}: {text}, {shown(estimate)}")
        for control, mean in row["means"].items():
            apart = mean["mean"] - row["earlier"][control]
            if not abs(apart) <= NEAR:
                text = f"{PAPER[control]} is {apart:+.1f} points from the earlier figure"
                found.append(f"{where}: {text}")
    return found


def shown(estimate: dict) -> str:
    if estimate["low"] is None:
        return f"{estimate['mean']:.1f}"
    return f"{estimate['mean']:.1f} [{estimate['low']:.1f}, {estimate['high']:.1f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *rest = (f"| {' | '.join(cells)} |\n" for cells in (head, *rows))
    return "".join([first, "|---" * len(head) + "|\n", *rest])


def text(rows: Sequence[dict], seeds: int) -> str:
    """The tables, in markdown."""
    places = [[row["scope"], percent(row["density"])] for row in rows]
    means = [
        [*place, *(f"{shown(row['means'][c])} ({row['earlier'][c]:.1f})" for c in PAPER)]
        for place, row in zip(places, rows, strict=True)
    ]
    differences = [
        [*place, *map(shown, row["differences"].values())]
        for place, row in zip(places, rows, strict=True)
    ]
    return (
        f"test accuracy, n = {seeds} seeds (in brackets the earlier figure):\n\n"
        + table(["scope", "density", *PAPER.values()], means)
        + "\ndifferences in points, paired by seed:\n\n"
        + table(["scope", "density", *rows[0]["differences"]], differences)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", type=Path, default=Path("results/decomposition"))
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--quick", action="store_true", help="5 seeds, a minute, rough figures")
    options = parser.parse_args()
    run(options.store, ["seeds=[0, 1, 2, 3, 4]", "prune.rounds=15"] if options.quick else [])

    rounds = load(NAME, store=options.store).rounds
    rows = measured(rounds)
    wrong = faults(rows, by="mean" if options.quick else "low")
    asserted = len(rows) * len(ORDER)
    sys.stdout.write(text(rows, rounds["seed"].nunique()))
    sys.stdout.write(
        f"\nasserted: {asserted} differences, largest p after Holm {corrected(rows):.1g}\n"
    )
    sys.stdout.write("".join(f"NOT SO: {each}\n" for each in wrong) or "the order holds\n")
    if options.json:
        figures = {"rows": rows, "faults": wrong}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
