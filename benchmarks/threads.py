"""What a second thread gives a trial of the compiled engine: the same lineages on one, and on two.

    python benchmarks/threads.py [--turns 3] [--json FILE] [--quick]

CartPole-v1 with the shipped settings, eight lineages of five rounds, inline: the wall time of the
whole command, its start included, on one thread and on two in turns. The tables of both are
compared to the bit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd


STUDY = """
name: threads
trainer: {{kind: dqn, engine: compiled, env: CartPole-v1, length: {length}}}
prune: {{fraction: 0.36, rounds: 5}}
seeds: [0, 1, 2, 3, 4, 5, 6, 7]
resources: {{cpus: {threads}}}
"""
DIFFER = ["seconds", "started_at", "finished_at"]
"""Columns that are no function of the sweep."""


def timed(threads: int, length: str) -> tuple[float, pd.DataFrame]:
    """The seconds of a run in a new store, and its table."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "threads.yaml"
        sweep.write_text(STUDY.format(threads=threads, length=length))
        command = [Path(sys.executable).with_name("raylottery"), "run", sweep, "--inline"]
        begun = time.perf_counter()
        subprocess.run([*command, "--store", folder], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        table = pd.read_parquet(Path(folder) / "sweeps/threads/rounds.parquet")
    return seconds, table.drop(columns=DIFFER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--quick", action="store_true", help="a minute, rough figures")
    options = parser.parse_args()
    turns, length = (1, "15000ts") if options.quick else (options.turns, "50000ts")

    timed(1, "2000ts")  # what compiles the engine, if nothing has
    turn = []
    for _ in range(turns):
        (one, alone), (two, together) = timed(1, length), timed(2, length)
        pd.testing.assert_frame_equal(alone, together, check_exact=True)
        turn.append({"one": one, "two": two, "ratio": one / two})
        sys.stdout.write(
            f"one thread {one:.1f} s, two {two:.1f} s: {one / two:.2f} times as fast\n"
        )
    ratio = median(each["ratio"] for each in turn)
    sys.stdout.write(f"median of {turns} turns: {ratio:.2f}; equal tables\n")
    if options.json:
        options.json.write_text(json.dumps({"turns": turn, "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main()
