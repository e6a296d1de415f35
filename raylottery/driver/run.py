"""`run`: a plan minus what is done, on Ray or in this process; safe to repeat.

Rounds that turn out to be damaged when the tables are made of them are trained again at once.

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
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial

from raylottery.driver.cluster import connected
from raylottery.driver.gather import Gatherer
from raylottery.driver.inline import run_inline
from raylottery.driver.keep import Keeper, recall, with_missed
from raylottery.driver.live import How, Live, Pulse, as_a_job
from raylottery.driver.machines import growth, machines, refuse_blind_machines
from raylottery.driver.plan import Plan, inspect, make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.resources import Growth, in_words, places, refuse_unplaced, seats
from raylottery.driver.stored import stored_sweep
from raylottery.driver.trial import Task
from raylottery.driver.watch import Ledger, Result, Watcher
from raylottery.errors import Damaged, StoreError, UsageError
from raylottery.spec import Lineage, Sweep
from raylottery.store import Store, layout
from raylottery.store.rounds import tell
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
        plan = with_missed(make_plan(sweep, store), store)
        only = [line.id for line in plan.lineages if plan.state(line) == "failed"]
        conductor = Conductor(plan, store, watcher, only if only_failed else None)
        train = partial(
            conduct, conductor, address=address, inline=inline, max_concurrent=max_concurrent
        )
        with conductor.restored:
            train(plan)
            for turn in range(TURNS):
                lost, trained = conductor.gatherer.lost, conductor.ledger.rounds
                if not lost or only_failed or conductor.interrupts:
                    break
                plan = with_missed(make_plan(sweep, store), store)
                again = [
                    line.id for line in plan.lineages if any(r.key in lost for r in line.rounds)
                ]
                conductor.turn_to(plan, again)
                train(plan)
                lost = conductor.gatherer.lost
                idle = conductor.ledger.rounds == trained and not conductor.failures
                if lost and not conductor.interrupts and (idle or turn == TURNS - 1):
                    raise next(iter(lost.values()))
            return conductor.result(sweep, begun)


TURNS = 5
"""So often rounds that are lost are trained again at once: then the disk is."""


def conduct(
    conductor: Conductor,
    plan: Plan,
    *,
    address: str | None,
    inline: bool,
    max_concurrent: int | None,
) -> None:
    """Train what the conductor's queue has of a plan, and write the tables."""
    sweep, store = plan.sweep, conductor.store
    queue, watcher = conductor.queue, conductor.watcher
    if queue.drained:
        conductor.close()
        return
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
        conductor.open()
        kept = f", which keeps no timeout of {sweep.timeout}" if sweep.timeout else ""
        watcher.opened(plan, 1, f"this process{kept}")
        # RLlib is no engine without a Ray around it, be it one that nobody else uses.
        stands_on_ray = any(study.trainer.engine == "rllib" for study in asked)
        around = connected(None) if stands_on_ray else nullcontext()
        with around, conductor.interruptible("this process"):
            run_inline(queue, task_of, *hooks)
    else:
        with connected(address):
            grows = growth() if address else Growth()
            found = places(plan.arms_to_train, machines(), grows)
            refuse_unplaced(found)
            conductor.open()
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
                run_tune(queue, task_of, sweep.timeout, max_concurrent, *hooks)


def where(address: str | None) -> str:
    """What a run trains on, for people."""
    if address is None:
        return "a local Ray"
    return "this machine's Ray cluster" if address == "auto" else f"the Ray cluster at {address}"


def this_machine() -> dict[str, float]:
    """What an inline run has: for whatever is asked, but only the GPUs that torch sees."""
    return {"CPU": 1e9, "memory": 1e18, "GPU": float(len(gpus()))}


def refuse_another_study(sweep: Sweep, store: Store) -> None:
    """One name is one study: a sweep file with another trainer needs another name."""
    if not store.files.exists(layout.sweep_file(sweep.name)):
        return
    try:
        stored = stored_sweep(sweep.name, store)
    except Damaged as error:
        tell(error)  # `run` writes it anew
        return
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

    def __init__(
        self, plan: Plan, store: Store, watcher: Watcher, only: Iterable[str] | None = None
    ):
        self.run = secrets.token_hex(6)
        self.began = datetime.now(UTC).isoformat()
        self.store = store
        self.watcher = watcher
        self.ledger = Ledger()
        self.failures: dict[str, str] = {}
        self.interrupts = 0
        self.restored = ExitStack()
        """Puts the handlers of signals back as they were."""
        self.stop_file = layout.stop(plan.sweep.name, self.run)
        self.turn_to(plan, only)

    def turn_to(self, plan: Plan, only: Iterable[str] | None = None) -> None:
        """Go on with a plan of the same sweep, or with some of its lineages."""
        self.queue = WorkQueue(plan, self.store.look, only, plan.sweep.retries)
        self.gatherer = Gatherer(plan, self.store)
        self.keeper = Keeper(plan, self.store)

    def open(self) -> None:
        """Nothing stands in the way any more: say what the sweep is, and what of it is anew."""
        recall(self.gatherer.plan, self.store)
        self.gatherer.open()

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
        error = signal.get("error")
        if event == "broken" and not self.queue.left(lineage):
            event = "done"  # it broke after its last round
        if event == "broken" and self.queue.stopped:
            event = "stopped"  # nothing is begun in this run any more
        if event == "broken" and (pause := self.queue.retried(lineage)) is not None:
            self.watcher.ended(lineage, "again", f"{error}; it is tried again in {pause:g} s")
            return
        if event == "busy":
            self.queue.busy(lineage)
        elif event in ("failed", "broken"):
            event = "failed"
            self.failures[lineage.id] = signal["error"]
            known = "key" in signal
            self.queue.failed(lineage, signal["key"] if known else self.noted(lineage, signal))
        else:
            self.queue.finished(lineage)
        self.watcher.ended(lineage, event, error)

    def committed(self, key: str) -> None:
        self.queue.round_done(key)
        self.gatherer.heard(key)
        self.keeper.heard(key)

    def noted(self, lineage: Lineage, signal: Mapping) -> str | None:
        """The round a lineage failed at, if its trial lived to note it; else it is noted here."""
        left = self.queue.left(lineage)
        if not left:
            return None
        silent = signal.get("silent", False)
        if not silent and any(n["at"] >= self.began for n in self.store.failures(left[0])):
            return left[0]
        [round] = [round for round in lineage.rounds if round.key == left[0]]
        note = {
            "sweep": self.gatherer.name,
            "lineage": lineage.id,
            "control": round.control,
            "round": round.index,
            "error": "TimedOut" if silent else "WorkerLost",
            "first_line": signal["error"],
            "log": layout.log(self.gatherer.name, lineage.id),
            "at": datetime.now(UTC).isoformat(),
        }
        try:
            self.store.fail(left[0], note)
        except StoreError as error:  # the store may be what broke it
            self.failures[lineage.id] += f" (and the store took no note of it: {error})"
        return left[0] if silent else None  # that a worker was lost says nothing of the round

    def stop(self) -> None:
        """Hand out nothing more, and tell the running trials to end after their round."""
        self.queue.stopped = True
        self.watcher.stopping()
        self.store.files.write(self.stop_file, b"")

    def on_tick(self) -> None:
        self.gatherer.tick()
        self.keeper.tick()
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

        Meanwhile the store shows that the run lives, at `place`. When it ends, a second one is
        too late to cut off the tables, or the end of Ray; a third is not.
        """
        # A thread of its own may wait for whatever the interrupted line holds, a handler may not.
        stopping = threading.Thread(target=self.stop)
        ending = False

        def interrupt(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > (2 if ending else 1):
                raise KeyboardInterrupt
            if not ending:
                stopping.start()

        live = Live.this_process(self.gatherer.name, self.run, place)
        trained = self.ledger.trained
        before = signal.signal(signal.SIGINT, interrupt)
        self.restored.callback(signal.signal, signal.SIGINT, before)
        try:
            with Pulse(self.store.files, live, lambda: len(trained), self.cancelled):
                yield
        except KeyboardInterrupt:
            self.interrupts = max(2, self.interrupts)
        finally:
            ending = True
            if stopping.ident is not None:
                stopping.join()
            self.store.files.delete(self.stop_file)
            self.close()

    def close(self) -> None:
        """Write the tables; then nothing needs what the sweep does not keep."""
        self.gatherer.write_all()
        if self.interrupts < 2:
            self.keeper.finish()

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
