"""What compiling the engine's code costs, once for a machine.

    python benchmarks/compiling.py [--turns 5] [--json FILE] [--quick]

The smallest sweep of agents and of classifiers, inline, in a process of its own: with an empty
folder for compiled code, and then with what the first one left there. The difference of the two
is what compiling costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


TRAINERS = {
    "agents": "{kind: dqn, engine: compiled, env: CartPole-v1, length: 2000ts}",
    "classifiers": "{kind: classifier, engine: compiled, dataset: mnist1d, model: mlp-100, "
    "length: 40it, batch_size: 100, lr: 0.001, optimizer: adam}",
}
STUDY = """
name: compiling
trainer: {trainer}
prune: {{fraction: 0.2, rounds: 1}}
seeds: [0]
"""


def spent(sweep: Path, folder: Path, store: str) -> tuple[float, float]:
    """CPU-seconds and seconds of a run in a new store, with this folder for compiled code."""
    command = [Path(sys.executable).with_name("raylottery"), "run", sweep, "--inline"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, "--store", folder / store],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--quick", action="store_true", help="one turn, a rough figure")
    options = parser.parse_args()
    turns = 1 if options.quick else options.turns

    costs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in TRAINERS}
    for _ in range(turns):
        for kind, trainer in TRAINERS.items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                sweep = folder / "compiling.yaml"
                sweep.write_text(STUDY.format(trainer=trainer))
                first, second = spent(sweep, folder, "first"), spent(sweep, folder, "second")
            cpu, seconds = first[0] - second[0], first[1] - second[1]
            costs[kind].append((cpu, seconds))
            sys.stdout.write(f"{kind}: {cpu:.1f} CPU-seconds, {seconds:.1f} seconds\n")
            sys.stdout.flush()
    found = {
        kind: dict(zip(("cpu", "seconds"), map(median, zip(*each, strict=True)), strict=True))
        for kind, each in costs.items()
    }
    for kind, cost in found.items():
        sys.stdout.write(
            f"{kind}, median of {turns} turns: {cost['cpu']:.1f} CPU-seconds, "
            f"{cost['seconds']:.1f} seconds\n"
        )
    if options.json:
        options.json.write_text(json.dumps({"turns": costs, "median": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
