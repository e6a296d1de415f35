"""How the driver bears many lineages: 64 slots on eight simulated nodes, trainings that sleep.

    python benchmarks/scale.py [--quick] [--json FILE] [--sizes 100 500 2000] [--seconds 20]

Eight Ray nodes of eight logical CPUs and GPUs each run on this one machine. The driver, the queue,
the tables, Ray Tune, the leases and the store are the real ones; only what trains a round is
replaced, by a sleep and a commit of small made-up files. Each worker process proves that it has
not imported torch. A seed is a lineage with a dense round of its own, so none waits for another.

Two cores start 64 processes in minutes, not in seconds, so the first lineages hold their slots
until all slots have one, and begin at random within one lineage's time. From then on, until fewer
lineages are left than there are slots, it is measured: a slot is busy from the start of a lineage
to its last commit, by the times in the records. Each size is run by a driver process of its own,
whose CPU-seconds go to the innermost of the timed calls that it was in. Then, without Ray, what
grows with a sweep: plan, queue and tables of made-up sweeps in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from raylottery.driver.cluster import ENVIRONMENT


os.environ.update({**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"})

from raylottery.driver.cohort import Cohort
from raylottery.driver.gather import Gatherer
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.trial import Journal, Task, misplaced
from raylottery.spec import Lineage, Round, Sweep, parse_sweep
from raylottery.store import Record, Store, layout, tables
from raylottery.store.record import StoredFile
from raylottery.store.schemas import CURVE, LAYER


NODES = 8
GPUS = 8
SLOTS = NODES * GPUS
ROUNDS = 4
SECONDS = 20.0
"""What a lineage sleeps, in equal parts for its rounds."""

FULL = f"{layout.sweep_folder('scale')}/full"
"""The file in the store that says that all slots are held."""

STUDY = """
name: scale
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 3}
resources: {cpus: 1, gpus: 1}
"""
RESULT = {
    "density": 1.0, "prunable": 400, "kept": 400, "total_params": 418, "revived": 0,
    "metric": "accuracy", "score": 0.5, "score_at_stop": 0.5, "score_best": 0.5,
    "score_late": 0.5, "score_area": 0.5, "train_score": 0.5, "loss": 1.0,
    "supermask_score": None, "steps": 80, "env_steps": None, "stopped_by": "length",
    "stop_step": None, "digests": {},
}  # fmt: skip


def study(seeds: int) -> Sweep:
    return parse_sweep(STUDY + f"seeds: {list(range(seeds))}\n")


# What a worker does instead of training


def asleep_trial(config: dict) -> None:
    """In the place of `tune.cohort_trial`."""
    from ray import tune

    [task] = Cohort.from_json(config).tasks()
    for signal in asleep(task):
        tune.report({"said": [signal]})


def asleep(task: Task) -> Iterator[dict]:
    """`trial.train` with a sleep for a trainer: the same leases, log, files and signals."""
    began = time.time()

    def signal(event: str, **more: object) -> dict:
        return {
            "event": event,
            "lineage": task.lineage.id,
            "worker": f"{platform.node()}:{os.getpid()}",
            "thread": 0,
            "began": began,
            "import_s": 0.0,
            "now": time.time(),
            **more,
        }

    yield signal("begun")
    store = Store.open(task.store)
    problem = misplaced(task, store)
    if problem or "torch" in sys.modules:
        yield signal("failed", error=problem or "a worker has imported torch")
        return
    journal = Journal(store, task)
    files = made_up_files()
    late = wait_for_all_slots(store)
    for round in task.lineage.rounds:
        if store.files.exists(layout.stop(task.sweep, task.run)):
            yield signal("stopped")
            return
        begun = datetime.now(UTC) - late
        late = timedelta(0)
        with store.lease(round.key) as lease:
            time.sleep(SECONDS / ROUNDS)
            record = store.commit(
                round,
                files=files,
                result=RESULT,
                sweep=task.sweep,
                attempt=lease.attempt,
                seconds=SECONDS / ROUNDS,
                started_at=begun,
                finished_at=datetime.now(UTC),
                device="none",
            )
        journal.add(f"round {round.index} {round.control}: slept {record.seconds:.2f} s")
        yield signal("round", key=round.key, seconds=record.seconds)
    journal.close()
    yield signal("done")


def wait_for_all_slots(store: Store) -> timedelta:
    """Hold a slot until all are held; how long that took."""
    begun = time.monotonic()
    if not store.files.exists(FULL):
        while not store.files.exists(FULL):
            time.sleep(1.0)
        time.sleep(random.uniform(0, SECONDS))
    return timedelta(seconds=time.monotonic() - begun)


def made_up_files() -> dict[str, bytes]:
    """As many and as small files as a round of a small classifier leaves, in their formats."""
    point = {field.name: made_up(field.type) for field in CURVE}
    layer = {field.name: made_up(field.type) for field in LAYER}
    return {
        "curve.parquet": tables.to_bytes([point] * 10, CURVE),
        "layers.parquet": tables.to_bytes([layer] * 2, LAYER),
        "ticket.safetensors": bytes(4096),
    }


def made_up(type: object) -> object:
    return {"string": "x", "bool": True}.get(str(type), 1)


# The driver, timed


class Meter:
    """CPU and wall seconds of calls, those of timed calls inside them left out."""

    def __init__(self):
        self.cpu: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self.longest: dict[str, float] = defaultdict(float)
        self.inner = [(0.0, 0.0)]

    def watch(self, part: str, owner: object, name: str) -> None:
        original = getattr(owner, name)

        def call(*args, **kwargs):
            cpu, wall = time.process_time(), time.perf_counter()
            self.inner.append((0.0, 0.0))
            try:
                return original(*args, **kwargs)
            finally:
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                cpu_inside, wall_inside = self.inner.pop()
                self.cpu[part] += cpu - cpu_inside
                self.wall[part] += wall - wall_inside
                self.longest[part] = max(self.longest[part], wall)
                above = self.inner.pop()
                self.inner.append((above[0] + cpu, above[1] + wall))

        setattr(owner, name, call)


@dataclass(frozen=True)
class Mark:
    """The driver at one moment."""

    at: float
    cpu: float
    cpu_by_part: dict[str, float]
    megabytes: float


class Tally:
    """Marks when all slots are held, and when fewer lineages than slots are left."""

    def __init__(self, seeds: int, meter: Meter, store: Store):
        self.seeds = seeds
        self.meter = meter
        self.store = store
        self.begun = 0
        self.left = seeds
        self.marks: list[Mark] = []
        self.failed: list[str] = []
        self.loads: list[float] = []

    def mark(self) -> None:
        cpu = dict(self.meter.cpu)
        self.marks.append(Mark(time.time(), time.process_time(), cpu, resident()))

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        self.mark()

    def started(self, lineage: Lineage) -> None:
        self.begun += 1
        if self.begun == 1:
            self.mark()
        if self.begun == SLOTS:
            self.store.files.write(FULL, b"")
            self.mark()

    def trained(self, lineage: Lineage, key: str) -> None:
        """The records tell of rounds."""

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        self.left -= 1
        self.loads.append(os.getloadavg()[0])
        if self.left == SLOTS - 1:
            self.mark()
        if event != "done":
            self.failed.append(f"{event}: {error}")

    def stopping(self) -> None: ...

    def tick(self) -> None: ...


def resident() -> float:
    """MB of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def drive(seeds: int, address: str, folder: str) -> dict:
    """One sweep on the cluster, by this process."""
    import ray
    from ray.tune.execution.tune_controller import TuneController

    from raylottery.driver import run, tune

    tune.cohort_trial = asleep_trial
    meter, store = Meter(), Store.open(folder)
    tally = Tally(seeds, meter, store)
    meter.watch("plan", run, "make_plan")
    meter.watch("inspect", run, "inspect")
    for name in ("take", "round_done", "finished"):
        meter.watch("queue", WorkQueue, name)
    meter.watch("gather, while it runs", Gatherer, "write_rounds")
    meter.watch("tables at the end", Gatherer, "write_all")
    meter.watch("answering signals", run.Conductor, "on_signal")
    meter.watch("Tune", TuneController, "step")
    meter.watch("waiting", ray, "wait")
    begun = time.time()
    result = run.run(study(seeds), store, tally, address=address)
    if tally.failed or result.missing or result.plan.todo:
        raise SystemExit(f"{len(tally.failed)} failed, such as {tally.failed[:1]}")
    opened, first, full, last = tally.marks
    spans = lifetimes(result.plan, store)
    through = seeds - SLOTS + 1
    return {
        "lineages": seeds,
        "seconds": time.time() - begun,
        "filling_s": full.at - first.at,
        "window_s": last.at - full.at,
        "busy": busy(spans, full.at, last.at),
        "cpu_ms_a_lineage": 1000 * (last.cpu - full.cpu) / through,
        "cpu_ms_by_part": {
            part: 1000 * (spent - full.cpu_by_part.get(part, 0.0)) / through
            for part, spent in last.cpu_by_part.items()
        },
        "wall_s": dict(meter.wall),
        "longest_s": dict(meter.longest),
        "mb_opened": opened.megabytes,
        "mb_last": last.megabytes,
        "load": sum(tally.loads) / len(tally.loads),
        "store": store_times(result.plan, store),
    }


def store_times(plan: Plan, store: Store) -> dict[str, float]:
    """Seconds that a full store takes: of a plan, of all records, of asking for none that is."""
    calls = {
        "plan_s": lambda: make_plan(plan.sweep, store),
        "records_s": lambda: store.records(plan.rounds),
        "misses_s": lambda: store.records(key[::-1] for key in plan.rounds),
        "tables_s": Gatherer(plan, store).write_all,
    }
    found = {"rounds": len(plan.rounds)}
    for name, call in calls.items():
        begun = time.perf_counter()
        call()
        found[name] = time.perf_counter() - begun
    return found


def lifetimes(plan: Plan, store: Store) -> list[tuple[float, float]]:
    """When each lineage's first round was begun, and its last one committed."""
    records = store.records(plan.rounds)
    return [
        (
            records[line.rounds[0].key].started_at.timestamp(),
            records[line.rounds[-1].key].finished_at.timestamp(),
        )
        for line in plan.lineages
    ]


def busy(spans: list[tuple[float, float]], since: float, until: float) -> float:
    """The share of all slots' time in which they had a lineage."""
    lived = sum(max(0.0, min(end, until) - max(start, since)) for start, end in spans)
    return lived / (SLOTS * (until - since))


# The cluster


@contextmanager
def cluster(temp: str) -> Iterator[str]:
    """The address of eight nodes on this machine, with ports and a folder of their own."""
    from ray.cluster_utils import Cluster

    shape = {"num_cpus": GPUS, "num_gpus": GPUS, "object_store_memory": 80 * 2**20}
    head = {**shape, "include_dashboard": False, "temp_dir": temp, "gcs_server_port": free_port()}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES - 1):
            nodes.add_node(**shape, temp_dir=temp)
        yield nodes.address
    finally:
        nodes.shutdown()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def sweeps(sizes: list[int], seconds: float) -> list[dict]:
    """A row a size, each driven by a fresh process on one cluster."""
    temp = tempfile.mkdtemp(prefix="rls-")
    # Where Ray notes the last cluster of this machine: not in the place that others look at.
    os.environ["RAY_TMPDIR"] = temp
    Path(temp, "ray").mkdir()
    rows = []
    try:
        with cluster(temp) as address:
            for size in sizes:
                out = Path(temp, f"{size}.json")
                words = [str(size), address, f"{temp}/store-{size}", str(out), str(seconds)]
                subprocess.run([sys.executable, __file__, "--drive", *words], check=True)
                rows.append(json.loads(out.read_text()))
                show(rows[-1])
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return rows


# What grows with a sweep, without Ray


def growth(seeds: int) -> dict:
    """Seconds and MB of a made-up sweep's plan, queue and table of rounds, in this process."""
    before, begun = resident(), time.process_time()
    plan = make_plan(study(seeds), None)
    rounds = plan.rounds
    planned, plan_mb = time.process_time() - begun, resident() - before

    begun = time.process_time()
    queue = WorkQueue(plan, lambda key: "free")
    running: list[Lineage] = []
    while not queue.drained:
        while len(running) < SLOTS and (line := queue.next()) is not None:
            running.append(line)
        line = running.pop(0)
        for round in line.rounds:
            queue.round_done(round.key)
        queue.finished(line)
    queued = time.process_time() - begun

    before = resident()
    records = {key: made_up_record(round) for key, round in rounds.items()}
    records_mb = resident() - before
    begun = time.process_time()
    data = tables.encode(tables.build_rounds("scale", plan.lineages, records))
    tabled = time.process_time() - begun

    begun = time.process_time()
    for record in records.values():
        Record.from_bytes(record.to_bytes(), record.key, "here")
    parsed = time.process_time() - begun
    return {
        "lineages": seeds,
        "rounds": len(rounds),
        "plan_s": planned,
        "plan_mb": plan_mb,
        "queue_s": queued,
        "records_mb": records_mb,
        "table_s": tabled,
        "table_mb": len(data) / 2**20,
        "parse_s": parsed,
    }


def made_up_record(round: Round) -> Record:
    now = datetime.now(UTC)
    return Record(
        key=round.key, parent=round.parent, spec=round.spec, trained_by="scale", attempt=1,
        files={name: StoredFile.of(f"1-{round.key[:16]}/{name}", b"") for name in ("a", "b", "c")},
        result=dict(RESULT), seconds=5.0, started_at=now, finished_at=now, host="here",
        device="none", version="0",
    )  # fmt: skip


# The command


def show(row: dict) -> None:
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in row["cpu_ms_by_part"].items() if ms)
    store = ", ".join(f"{part} {s:.2f}" for part, s in row["store"].items())
    sys.stdout.write(
        f"{row['lineages']:6} lineages in {row['seconds']:.0f} s: slots filled in "
        f"{row['filling_s']:.0f} s, then {row['busy']:.1%} busy for {row['window_s']:.0f} s; "
        f"driver {row['cpu_ms_a_lineage']:.1f} CPU-ms a lineage, {row['mb_opened']:.0f} to "
        f"{row['mb_last']:.0f} MB; load {row['load']:.1f}\n       CPU-ms a lineage: {parts}\n"
        f"       store: {store}\n"
    )
    sys.stdout.flush()


def main() -> None:
    global SECONDS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="70 lineages of two seconds")
    parser.add_argument("--json", type=Path, help="keep the figures")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 500, 2000])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a lineage sleeps")
    parser.add_argument("--growth", type=int, nargs="*", default=[1000, 4000, 16000])
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        size, address, folder, out, SECONDS = *options.drive[:4], float(options.drive[4])
        Path(out).write_text(json.dumps(drive(int(size), address, folder)))
        return
    sizes = [70] if options.quick else options.sizes
    rows = sweeps(sizes, 2.0 if options.quick else options.seconds) if sizes else []
    grown = []
    for seeds in [1000] if options.quick else options.growth:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            row = fresh.submit(growth, seeds).result()
        grown.append(row)
        sys.stdout.write(
            f"{seeds:6} lineages, {row['rounds']} rounds: plan {row['plan_s']:.2f} s, "
            f"{row['plan_mb']:.0f} MB; queue {row['queue_s']:.2f} s; records "
            f"{row['records_mb']:.0f} MB, parsed in {row['parse_s']:.2f} s; table "
            f"{row['table_s']:.2f} s, {row['table_mb']:.1f} MB\n"
        )
    if options.json:
        options.json.write_text(json.dumps({"sweeps": rows, "growth": grown}, indent=1))


if __name__ == "__main__":
    main()
