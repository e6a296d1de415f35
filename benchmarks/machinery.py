"""What a round costs beside its training: 1,000 lineages whose rounds train nothing.

    python benchmarks/machinery.py [--quick] [--json FILE] [--lineages 1000] [--profile FOLDER]

Everything is the real thing (lineage, pruning, leases, store on a local disk, queue, tables, Ray
Tune on a local Ray of two CPUs, or `--inline`) but the trainer, whose network is real and whose
training gives back what it was given. Each row is measured in a process of its own, from the first
round that is committed to the last. `plan` is timed as a user runs it, in a fresh process.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from raylottery.driver.cluster import ENVIRONMENT


os.environ.update({**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})

import pyarrow.parquet as pq

from raylottery.driver.plan import Plan
from raylottery.spec import Lineage, Sweep, parse_sweep
from raylottery.store import Store, layout


if TYPE_CHECKING:
    from raylottery.trainers.base import Outcome, Start, Trainer


STUDY = """
name: machinery
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
axes: {prune.scope: [global, layerwise]}
"""
POINTS = 10
"""Of a round's curve."""
COLUMNS = ("", "rounds", "rounds a second", "s until the first", "s after the last",
           "MB at 10 %", "MB at 100 %", "most MB")  # fmt: skip
SETTINGS = {"inline": True, "a local Ray": False}


def study(lineages: int) -> str:
    """Two arms that share their dense rounds."""
    return STUDY + f"seeds: {list(range(lineages // 2))}\n"


def idle_trial(config: dict) -> None:
    """In the place of `tune.cohort_trial`."""
    from raylottery.driver.tune import cohort_trial

    train_nothing()
    cohort_trial(config)


def train_nothing() -> None:
    """In this process, a classifier's training gives back what it was given."""
    from raylottery import trainers
    from raylottery.trainers.base import CurvePoint, Outcome, Scores, digest
    from raylottery.trainers.classifier.loop import Classifier

    class Idle(Classifier):
        def train(self, starts: Sequence[Start]) -> list[Outcome]:
            return [outcome(start) for start in starts]

    def outcome(start: Start) -> Outcome:
        weights = dict(start.ticket.weights)
        steps = range(0, start.end + 1, max(1, start.end // POINTS))
        point = partial(CurvePoint, split="valid", metric="accuracy", value=0.5)
        return Outcome(
            weights=weights,
            scores=Scores(
                metric="accuracy", score=0.5, score_at_stop=0.5, score_best=0.5, score_late=0.5,
                score_area=0.5, train_score=0.5, loss=1.0, steps=start.end - start.clock,
            ),
            curve=[point(step=step) for step in steps],
            revived=0,
            seconds=0.0,
            snapshots=dict.fromkeys(start.keep, weights),
            digests={start.end: digest(weights)} if start.keep else {},
        )  # fmt: skip

    def make(study: Sweep, *, gpu: bool) -> Trainer:
        import torch

        return Idle(study, torch.device("cpu"))

    trainers.make_trainer = make


class Tally:
    """When rounds are committed, and how much memory the driver holds meanwhile."""

    def __init__(self):
        self.at: list[float] = []
        self.megabytes: dict[int, float] = {}
        self.rounds = 0
        self.ends: dict[str, int] = {}

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        self.rounds = len(plan.todo)

    def started(self, lineage: Lineage) -> None: ...

    def trained(self, lineage: Lineage, key: str) -> None:
        self.at.append(time.monotonic())
        share = 100 * len(self.at) // self.rounds
        if share % 10 == 0 and share not in self.megabytes:
            self.megabytes[share] = resident()

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        self.ends[event] = self.ends.get(event, 0) + 1

    def stopping(self) -> None: ...

    def tick(self) -> None: ...


def resident() -> float:
    """MB of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def drive(lineages: int, inline: bool, folder: str, profile: str) -> dict:
    """One sweep, by this process."""
    from raylottery.driver import run
    from raylottery.driver.cluster import connected

    if inline:
        train_nothing()
    else:
        from raylottery.driver import tune

        tune.cohort_trial = idle_trial
    store, tally = Store.open(folder), Tally()
    sweep = parse_sweep(study(lineages))
    profiler = cProfile.Profile()
    begun = time.monotonic()
    if profile:
        profiler.enable()
    if inline:
        result = run.run(sweep, store, tally, inline=True)
    else:
        import ray

        ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=2)
        with connected(None):
            result = run.run(sweep, store, tally)
    if profile:
        profiler.disable()
        profiler.dump_stats(profile)
    if result.exit_code or result.plan.todo:
        raise SystemExit(
            f"not all was trained: {tally.ends}, such as {[*result.failures.values()][:1]}"
        )
    first, last = tally.at[0], tally.at[-1]
    return {
        "lineages": lineages,
        "rounds": len(result.plan.rounds),
        "seconds": last - first,
        "rounds_a_second": (len(tally.at) - 1) / (last - first),
        "until_the_first_s": first - begun,
        "end_s": time.monotonic() - last,
        "megabytes": tally.megabytes,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows(store, result.plan),
    }


def rows(store: Store, plan: Plan) -> dict[str, int]:
    """Of each table; an error if one is not complete."""
    found = {
        name: pq.ParquetFile(store.files.where(layout.table("machinery", name))).metadata.num_rows
        for name in ("lineages", "rounds", "curves", "layers", "failures")
    }
    members = sum(len(line.rounds) for line in plan.lineages)
    wanted = {
        "lineages": len(plan.lineages), "rounds": members, "curves": members * (POINTS + 1),
        "layers": members * 2, "failures": 0,
    }  # fmt: skip
    if found != wanted:
        raise SystemExit(f"tables have {found} rows, not {wanted}")
    return found


def plan_seconds(lineages: int, folder: Path, store: Path, times: int) -> float:
    """Wall time of `raylottery plan` in a fresh process, the median of some."""
    file = folder / "machinery.yaml"
    file.write_text(study(lineages))
    words = [sys.executable, "-m", "raylottery", "plan", file, "--store", store]
    taken = []
    for _ in range(times):
        begun = time.monotonic()
        subprocess.run(words, check=True, capture_output=True)
        taken.append(time.monotonic() - begun)
    return median(taken)


def show(name: str, row: Mapping) -> None:
    held = row["megabytes"]
    cells = (
        name,
        row["rounds"],
        f"{row['rounds_a_second']:.1f}",
        f"{row['until_the_first_s']:.1f}",
        f"{row['end_s']:.1f}",
        *(f"{megabytes:.0f}" for megabytes in (held["10"], held["100"], row["peak_mb"])),
    )
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 lineages")
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--lineages", type=int, default=1000)
    parser.add_argument("--profile", type=Path, help="keep a cProfile of each driver here")
    parser.add_argument("--only", choices=SETTINGS, help="this setting alone")
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        lineages, name, folder, out, profile = options.drive
        row = drive(int(lineages), SETTINGS[name], folder, profile)
        Path(out).write_text(json.dumps(row))
        return
    lineages = 100 if options.quick else options.lineages
    found: dict[str, dict] = {"runs": {}, "plan_s": {}}
    with tempfile.TemporaryDirectory(prefix="rlm-") as temp:
        folder = Path(temp)
        os.environ["RAY_TMPDIR"] = temp
        (folder / "ray").mkdir()
        sys.stdout.write(f"{lineages} lineages\n\n| {' | '.join(COLUMNS)} |\n")
        sys.stdout.write("|---" * len(COLUMNS) + "|\n")
        for name in [options.only] if options.only else SETTINGS:
            slug, out = name.replace(" ", "-"), folder / "row.json"
            profile = options.profile / f"{slug}.prof" if options.profile else ""
            words = [lineages, name, folder / slug, out, profile]
            command = [sys.executable, __file__, "--drive", *map(str, words)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found["runs"][name] = json.loads(out.read_text())
            show(name, found["runs"][name])
            found["plan_s"][f"of what {name} did"] = plan_seconds(
                lineages, folder, folder / slug, 3
            )
        found["plan_s"]["of an empty store"] = plan_seconds(lineages, folder, folder / "none", 3)
    for name, seconds in found["plan_s"].items():
        sys.stdout.write(f"\nplan {name}: {seconds:.2f} s")
    sys.stdout.write("\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
