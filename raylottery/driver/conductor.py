"""What a run does with what its trials say, and with who interrupts it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from raylottery.driver.gather import Gatherer
from raylottery.driver.keep import Keeper, recall
from raylottery.driver.live import How, Live, Pulse
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.driver.watch import Ledger, Result, Watcher
from raylottery.errors import StoreError
from raylottery.spec import Lineage, Sweep
from raylottery.store import Store, layout


log = logging.getLogger(__name__)

OUTAGE_S = 120.0
"""So long the end of a lineage waits for a store that does not answer."""


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
        self.ends: deque[tuple[Lineage, Mapping]] = deque()
        """Of lineages, which the queue has not heard of yet."""
        self.silent_since: float | None = None
        """When the store ceased to answer."""
        self.restored = ExitStack()
        """Puts the handlers of signals back as they were."""
        self.stop_file = layout.stop(plan.sweep.name, self.run)
        self.stopping, self.over = threading.Lock(), False
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

    def on_signal(self, lineage: Lineage, signal: Mapping) -> None:
        if "worker" in signal:
            self.ledger.read(signal)
        match signal["event"]:
            case "begun":
                self.watcher.started(lineage)
            case "round":
                self.committed(signal["key"])
                self.watcher.trained(lineage, signal["key"])
            case "unbegun":
                self.queue.unbegun(lineage)
            case _:
                self.ends.append((lineage, signal))
                self.look_at_ends()

    def look_at_ends(self) -> None:
        """What becomes of lineages that ended: while the store does not answer, that waits."""
        while self.ends:
            try:
                self.ended(*self.ends[0])
            except StoreError as error:
                if self.silent_since is None:
                    self.silent_since = time.monotonic()
                    log.warning("what became of a lineage waits for the store: %s", error)
                if time.monotonic() - self.silent_since < OUTAGE_S:
                    return
                raise
            self.silent_since = None
            self.ends.popleft()

    def ended(self, lineage: Lineage, signal: Mapping) -> None:
        """A lineage ended, as the signal says; the queue learns what is to be done about it."""
        event = signal["event"]
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
        with self.stopping:  # a thread that comes late leaves no file that nobody takes away
            if not self.over:
                self.store.files.write(self.stop_file, b"")

    def on_tick(self) -> None:
        self.look_at_ends()
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
        self.over = False

        def interrupt(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts > (2 if self.over else 1):
                raise KeyboardInterrupt
            if not self.over:
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
            self.over = True
            with self.stopping:
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
