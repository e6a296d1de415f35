"""`run`: a plan minus what is done, on Ray or in this process; safe to repeat.

An interrupt once (Ctrl-C) lets every running round finish, starts nothing more and writes the
tables; a second one stops at once. Either way no finished round is lost, and the next run goes on
from there.
"""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from raylottery.driver.cluster import connected, nodes
from raylottery.driver.gather import Gatherer
from raylottery.driver.inline import run_inline
from raylottery.driver.plan import make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import seats
from raylottery.driver.trial import Task
from raylottery.driver.watch import Ledger, Result, Watcher
from raylottery.errors import UsageError
from raylottery.spec import Lineage, Sweep, parse_sweep
from raylottery.store import Store, layout


def run(
    sweep: Sweep,
    store: Store,
    watcher: Watcher,
    *,
    address: str | None = None,
    inline: bool = False,
    max_concurrent: int | None = None,
    only_failed: bool = False,
    replace: bool = False,
) -> Result:
    """Train what the store does not have of a sweep, and write the sweep's tables."""
    begun = time.monotonic()
    if not replace:
        refuse_another_study(sweep, store)
    plan = make_plan(sweep, store)
    only = [line.id for line in plan.lineages if plan.state(line) == "failed"]
    queue = WorkQueue(plan, only if only_failed else None)
    gatherer = Gatherer(plan, store)
    conductor = Conductor(queue, gatherer, watcher)
    if queue.drained:
        gatherer.write_all()
        return conductor.result(sweep, begun)

    def task_of(lineage: Lineage) -> Task:
        trunk = lineage.rounds[0].key
        wanted = {trunk: plan.extents.get(trunk, ())}
        return Task(
            sweep=sweep.name,
            store=store.uri,
            lineage=lineage,
            extents=wanted,
            run=conductor.run,
        )

    hooks = (conductor.on_start, conductor.on_signal, conductor.on_tick)
    if inline:
        gatherer.open()
        watcher.opened(plan, 1, "this process")
        with conductor.interruptible():
            run_inline(queue, task_of, sweep.retries, *hooks)
    else:
        with connected(address):
            asked = [line.arm.study.resources for line in plan.lineages if plan.unfinished(line)]
            at_once = min(seats(resources, nodes()) for resources in asked)
            gatherer.open()
            place = f"the Ray cluster at {address}" if address else "a local Ray"
            watcher.opened(plan, min(at_once, max_concurrent or at_once), place)
            from raylottery.driver.tune import run_tune  # loads ray, once its environment is set

            with conductor.interruptible():
                run_tune(queue, task_of, sweep.retries, max_concurrent, *hooks)
    return conductor.result(sweep, begun)


def refuse_another_study(sweep: Sweep, store: Store) -> None:
    """One name is one study: a sweep file with another trainer needs another name."""
    path = layout.sweep_file(sweep.name)
    if not store.files.exists(path):
        return
    stored = parse_sweep(store.files.read(path).decode(), file=f"{store.uri}/{path}")
    mine, theirs = sweep.trainer.model_dump(), stored.trainer.model_dump()
    changed = [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
    if changed:
        field = sorted(changed)[0]
        raise UsageError(
            f"the store already has a sweep {sweep.name!r} with another trainer (trainer.{field} "
            f"was {theirs.get(field)}, is now {mine.get(field)}). Give this one another `name:`, "
            f"or say --replace: its tables are then replaced, its rounds stay"
        )


class Conductor:
    """Answers what the trials say: to the queue, the tables, the watcher and the ledger."""

    def __init__(self, queue: WorkQueue, gatherer: Gatherer, watcher: Watcher):
        self.run = secrets.token_hex(6)
        self.queue = queue
        self.gatherer = gatherer
        self.watcher = watcher
        self.ledger = Ledger()
        self.failures: dict[str, str] = {}
        self.interrupts = 0
        self.store = gatherer.store
        self.stop_file = layout.stop(gatherer.name, self.run)

    def on_start(self, lineage: Lineage) -> None:
        self.watcher.started(lineage)

    def on_signal(self, lineage: Lineage, signal: Mapping) -> None:
        event = signal["event"]
        if "worker" in signal:
            self.ledger.read(signal)
        if event == "round":
            self.queue.round_done(signal["key"])
            self.watcher.trained(lineage, signal["key"])
            return
        if event == "busy":
            self.queue.busy(lineage)
        elif event == "failed":
            self.queue.failed(lineage)
            self.failures[lineage.id] = signal["error"]
        else:
            self.queue.finished(lineage)
        self.watcher.ended(lineage, event, signal.get("error"))

    def on_tick(self) -> None:
        if self.interrupts and not self.queue.stopped:
            self.queue.stopped = True
            self.store.files.write(self.stop_file, b"")
            self.watcher.stopping()
        self.gatherer.tick()
        self.watcher.tick()

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Count interrupts: the first is answered at the next tick, the second is raised."""

        def interrupt(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        except KeyboardInterrupt:
            self.interrupts = max(2, self.interrupts)
        finally:
            signal.signal(signal.SIGINT, before)
            self.store.files.delete(self.stop_file)
            self.gatherer.write_all()

    def result(self, sweep: Sweep, begun: float) -> Result:
        for lineage in self.queue.doomed:
            self.failures.setdefault(lineage.id, "a round it shares with another lineage failed")
        return Result(
            plan=make_plan(sweep, self.store),
            ledger=self.ledger,
            seconds=time.monotonic() - begun,
            interrupted=self.interrupts > 0,
            failures=self.failures,
        )
