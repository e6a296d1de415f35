"""`run`: a plan minus what is done, on Ray or in this process; safe to repeat.

An interrupt once (Ctrl-C) lets every running round finish, starts nothing more and writes the
tables; a second one stops at once. `raylottery cancel` does the same through the store. Either way
no finished round is lost, and the next run goes on from there.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

from raylottery.driver.cluster import connected
from raylottery.driver.gather import Gatherer
from raylottery.driver.inline import run_inline
from raylottery.driver.live import How, Live, Pulse, as_a_job
from raylottery.driver.machines import growth, machines, refuse_blind_machines
from raylottery.driver.plan import inspect, make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import Growth, in_words, places, refuse_unplaced, seats
from raylottery.driver.trial import Task
from raylottery.driver.watch import Ledger, Result, Watcher
from raylottery.errors import UsageError
from raylottery.spec import Lineage, Sweep, parse_sweep
from raylottery.store import Store, layout
from raylottery.trainers import gpus


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
    with as_a_job(store, sweep.name):
        if not replace:
            refuse_another_study(sweep, store)
        plan = make_plan(sweep, store)
        only = [line.id for line in plan.lineages if plan.state(line) == "failed"]
        queue = WorkQueue(plan, store.look, only if only_failed else None)
        gatherer = Gatherer(plan, store)
        conductor = Conductor(queue, gatherer, watcher)
        if queue.drained:
            gatherer.write_all()
            return conductor.result(sweep, begun)
        inspect(plan)

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
        asked = [line.arm.study for line in plan.lineages if plan.unfinished(line)]
        if inline:
            for study in asked:
                seats(study, [this_machine()])
            gatherer.open()
            watcher.opened(plan, 1, "this process")
            # RLlib is no engine without a Ray around it, be it one that nobody else uses.
            stands_on_ray = any(study.trainer.engine == "rllib" for study in asked)
            around = connected(None) if stands_on_ray else nullcontext()
            with around, conductor.interruptible("this process"):
                run_inline(queue, task_of, sweep.retries, *hooks)
        else:
            with connected(address):
                grows = growth() if address else Growth()
                found = places(plan.arms_to_train, machines(), grows)
                refuse_unplaced(found)
                gatherer.open()
                if address:
                    refuse_blind_machines(store, sweep.name)
                place = where(address)
                at_once = max(1, min(each.at_once for each in found))
                late = next((each.asks for each in found if each.waits), None)
                note = f", which must grow first: none has {in_words(late)}" if late else ""
                watcher.opened(plan, min(at_once, max_concurrent or at_once), place + note)
                # It loads Ray, once Ray's environment is set.
                from raylottery.driver.tune import run_tune

                with conductor.interruptible(place):
                    run_tune(queue, task_of, sweep.retries, max_concurrent, *hooks)
        return conductor.result(sweep, begun)


def where(address: str | None) -> str:
    """What a run trains on, for people."""
    if address is None:
        return "a local Ray"
    return "this machine's Ray cluster" if address == "auto" else f"the Ray cluster at {address}"


def this_machine() -> dict[str, float]:
    """What an inline run has: CPUs for whatever is asked, and the GPUs that torch sees."""
    return {"CPU": 1e9, "GPU": float(len(gpus()))}


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
        self.began = datetime.now(UTC).isoformat()
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
            self.committed(signal["key"])
            self.watcher.trained(lineage, signal["key"])
            return
        for key in self.store.done(self.queue.left(lineage)):  # others may have trained some
            self.committed(key)
        if event == "busy":
            self.queue.busy(lineage)
        elif event == "failed":
            self.failures[lineage.id] = signal["error"]
            self.queue.failed(lineage, signal.get("key") or self.noted(lineage, signal["error"]))
        else:
            self.queue.finished(lineage)
        self.watcher.ended(lineage, event, signal.get("error"))

    def committed(self, key: str) -> None:
        self.queue.round_done(key)
        self.gatherer.heard(key)

    def noted(self, lineage: Lineage, error: str) -> str | None:
        """The round a lineage failed at, if its trial lived to note it; else it is noted here."""
        left = self.queue.left(lineage)
        if not left:
            return None
        if any(note["at"] >= self.began for note in self.store.failures(left[0])):
            return left[0]
        [round] = [round for round in lineage.rounds if round.key == left[0]]
        self.store.fail(
            left[0],
            {
                "sweep": self.gatherer.name,
                "lineage": lineage.id,
                "control": round.control,
                "round": round.index,
                "error": "WorkerLost",
                "first_line": error,
                "log": layout.log(self.gatherer.name, lineage.id),
                "at": datetime.now(UTC).isoformat(),
            },
        )
        return None

    def stop(self) -> None:
        """Hand out nothing more, and tell the running trials to end after their round."""
        self.queue.stopped = True
        self.watcher.stopping()
        self.store.files.write(self.stop_file, b"")

    def on_tick(self) -> None:
        self.gatherer.tick()
        self.watcher.tick()

    def cancelled(self, how: How) -> None:
        """Do what one Ctrl-C does, or two; called by another thread, which sees a request."""
        wanted = 1 if how == "round" else 2
        if self.interrupts < wanted:
            self.interrupts = wanted - 1
            os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def interruptible(self, place: str) -> Generator[None]:
        """Count interrupts: the first lets what runs finish its round, the second is raised.

        Meanwhile the store shows that the run lives, at `place`.
        """
        # A thread of its own may wait for whatever the interrupted line holds, a handler may not.
        stopping = threading.Thread(target=self.stop)

        def interrupt(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                raise KeyboardInterrupt
            stopping.start()

        live = Live.this_process(self.gatherer.name, self.run, place)
        trained = self.ledger.trained
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            with Pulse(self.store.files, live, lambda: len(trained), self.cancelled):
                yield
        except KeyboardInterrupt:
            self.interrupts = max(2, self.interrupts)
        finally:
            signal.signal(signal.SIGINT, before)
            if stopping.ident is not None:
                stopping.join()
            self.store.files.delete(self.stop_file)
            self.gatherer.write_all()

    def result(self, sweep: Sweep, begun: float) -> Result:
        for lineage in self.queue.doomed:
            self.failures.setdefault(lineage.id, "a round it shares with another lineage failed")
        plan = make_plan(sweep, self.store)
        return Result(
            plan=plan,
            missing=len(self.ledger.trained - plan.done),
            ledger=self.ledger,
            seconds=time.monotonic() - begun,
            interrupted=self.interrupts > 0,
            failures=self.failures,
        )
