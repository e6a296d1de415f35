"""How long answers take of a large store: 2 million rows, loaded and compared.

    python benchmarks/answers.py [--quick] [--json FILE]

Writes a made-up store of 150 arms, 100 seeds, 20 rounds and all six controls (15,000 lineages, 2.1
million rows of rounds.parquet, every column of it) into a temporary folder. Each question is then
asked in a fresh interpreter: seconds with the import of pandas, CPU seconds of the process, and
its largest memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from raylottery.spec import CONTROLS, lineages, parse_sweep
from raylottery.store.files import Files
from raylottery.store.opening import open_files
from raylottery.store.schemas import ROUNDS
from raylottery.store.tables import build_lineages, encode


NAME = "large"
STUDY = """
name: large
trainer: {{kind: classifier, dataset: mnist1d, model: mlp-9, length: 9ep, batch_size: 10, lr: 0.1}}
prune: {{fraction: 0.2, rounds: {rounds}}}
seeds: [{seeds}]
axes:
  prune.scope: [global, layerwise]
  rewind.weights: [init, 1ep, 2ep, 3ep, 4ep]
  trainer.batch_size: [{sizes}]
controls: [{controls}]
"""

BOTH = ["prune.scope", "rewind.weights"]
QUESTIONS = {
    "compare --by prune.scope": "compare(load(NAME, store=store), 'prune.scope')",
    "compare --by two fields": f"compare(load(NAME, store=store), {BOTH})",
    "compare --by control": "compare(load(NAME, store=store), 'control')",
    "summary": "summary(load(NAME, store=store))",
    "load(...).rounds, all columns": "load(NAME, store=store).rounds",
}
"""What is asked, and the expression that is timed."""


def written(store: Path, seeds: int, sizes: int) -> int:
    """`write` in a process of its own: a child's largest memory begins at its parent's."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(write, store, seeds, sizes).result()


def write(store: Path, seeds: int, sizes: int) -> int:
    """A store with one large sweep; how many rows its rounds have."""
    text = STUDY.format(
        rounds=20,
        seeds=", ".join(map(str, range(seeds))),
        sizes=", ".join(str(10 * size) for size in range(1, sizes + 1)),
        controls=", ".join(CONTROLS),
    )
    lines = lineages(parse_sweep(text))
    store.mkdir()
    files: Files = open_files(str(store))
    files.write_if_changed(f"sweeps/{NAME}/lineages.parquet", encode(build_lineages(NAME, lines)))
    rounds = made_up(lines)
    files.write_if_changed(f"sweeps/{NAME}/rounds.parquet", encode(rounds))
    return rounds.num_rows


def made_up(lines) -> pa.Table:
    """Rounds of all lineages with random scores: tickets, then what branches off them."""
    draw = np.random.default_rng(0)
    controls = np.array(["ticket", *CONTROLS])
    rounds = np.concatenate([np.arange(21), np.tile(np.arange(1, 21), len(CONTROLS))])
    control = np.concatenate([np.zeros(21, int), np.repeat(np.arange(len(CONTROLS)) + 1, 20)])
    each = len(rounds)
    line = np.repeat(np.arange(len(lines)), each)
    rounds, control = np.tile(rounds, len(lines)), np.tile(control, len(lines))
    scope = np.array([one.arm.study.prune.scope for one in lines])
    density = np.where((scope == "global")[line], 0.8**rounds, 0.803**rounds)
    count = len(line)
    of_lines = {
        "arm": [one.arm.id for one in lines],
        "lineage": [one.id for one in lines],
        "arm_label": [one.arm.label for one in lines],
        "scope": scope,
        "rewind_weights": [str(one.arm.study.rewind.weights) for one in lines],
        "rewind_clock": [str(one.arm.study.rewind.restart) for one in lines],
    }
    seed = np.array([one.seed for one in lines])[line]
    noise = draw.normal(0, 0.01, (len(lines), each)).ravel()
    columns = {
        **{name: np.asarray(values)[line] for name, values in of_lines.items()},
        "seed": seed,
        "round": rounds,
        "control": controls[control],
        "lineage_mode": np.where(control == 0, "own", "branch"),
        "density": density,
        "prunable": np.full(count, 43_000),
        "kept": np.round(density * 43_000).astype(int),
        "metric": np.full(count, "accuracy"),
        "score": 0.6 + seed / 1000 + 0.03 * np.log(density) - 0.05 * (control > 0) + noise,
        "key": [f"{number:032x}" for number in range(count)],
        "steps": np.full(count, 525),
    }
    return pa.table([_column(field, columns, count, draw) for field in ROUNDS], schema=ROUNDS)


def _column(field: pa.Field, columns: dict, count: int, draw: np.random.Generator) -> pa.Array:
    if field.name in columns:
        return pa.array(columns[field.name], field.type)
    if field.nullable:
        return pa.nulls(count, field.type)
    if pa.types.is_floating(field.type):
        return pa.array(draw.random(count), field.type)
    if pa.types.is_timestamp(field.type):
        return pa.array(np.full(count, np.datetime64("2026-01-01", "us")), field.type)
    value = {"string": "a word", "int64": 1, "bool": False}[str(field.type)]
    return pa.repeat(pa.scalar(value, field.type), count)


ASK = """
import time
begun = time.perf_counter()
from raylottery.analysis import compare, load, summary
NAME, store = {name!r}, {store!r}
answer = {expression}
seconds = time.perf_counter() - begun
import json, resource
cpu = time.process_time()
print(json.dumps([seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def ask(expression: str, store: Path, turns: int) -> dict:
    """Median seconds and the largest memory of some turns, each in a fresh interpreter."""
    script = ASK.format(name=NAME, store=str(store), expression=expression)
    measured = []
    for _ in range(turns):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        measured.append(json.loads(done.stdout))
    seconds, cpu, megabytes = zip(*measured, strict=True)
    return {
        "seconds": statistics.median(seconds),
        "cpu_s": statistics.median(cpu),
        "mb": max(megabytes),
        "turns": turns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="20,000 rows, once")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        rows = written(store, *(10, 1) if options.quick else (100, 15))
        sys.stdout.write(f"{rows:,} rows\n")
        found = []
        for question, expression in QUESTIONS.items():
            row = {"question": question, "rows": rows}
            row |= ask(expression, store, turns=1 if options.quick else 3)
            found.append(row)
            sys.stdout.write(
                f"{question:32} {row['seconds']:6.2f} s  {row['cpu_s']:6.2f} CPU-s  "
                f"{row['mb']:6.0f} MB\n"
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
