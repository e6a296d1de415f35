"""The driver's side of the store: the sweep's own folder, derived from the rounds.

Tables are rewritten while a sweep runs, but no more often than every ten seconds and for no more
than a fiftieth of its time; curves and layers, which are long, at the end or at an interrupt
alone.
"""

from __future__ import annotations

import json
import time

from raylottery.driver.plan import Plan
from raylottery.driver.provenance import provenance
from raylottery.spec import dump_sweep
from raylottery.store import Record, Store, layout, tables


EVERY_S = 10.0
SHARE = 0.02


class Gatherer:
    """Collects the records of a plan's rounds and writes the sweep's tables from them."""

    def __init__(self, plan: Plan, store: Store):
        self.plan = plan
        self.store = store
        self.name = plan.sweep.name
        self.records: dict[str, Record] = {}
        self.news = set(plan.done)
        """Rounds that are known to have a record which was not read yet."""
        self.began = self.last = time.monotonic()
        self.spent = 0.0

    def open(self) -> None:
        """Say what the sweep is, and who trains it, before anything of it is trained."""
        self.describe()
        about = json.dumps(provenance(), indent=2) + "\n"
        self.store.files.write(layout.provenance(self.name), about.encode())

    def heard(self, key: str) -> None:
        """A round was committed."""
        self.news.add(key)

    def tick(self) -> None:
        """Rewrite the rounds table if it is time to."""
        now = time.monotonic()
        if now - self.last >= EVERY_S and self.spent <= SHARE * (now - self.began):
            self.write_rounds()

    def write_rounds(self) -> None:
        """The table of all rounds that were heard of: no more is asked of the store."""
        begun = time.monotonic()
        self._collect()
        rounds = tables.build_rounds(self.name, self.plan.lineages, self.records)
        self._write("rounds", rounds)
        self.last = time.monotonic()
        self.spent += self.last - begun

    def write_all(self) -> None:
        """All tables, as the store has the rounds now."""
        self.describe()
        self.news.update(self.plan.rounds)
        self.write_rounds()
        lineages = self.plan.lineages
        self._write("curves", tables.build_curves(self.store, self.name, lineages, self.records))
        self._write("layers", tables.build_layers(self.store, self.name, lineages, self.records))
        self._write("failures", tables.build_failures(self.store, self.name, lineages))

    def describe(self) -> None:
        """What the sweep is: enough for others to list it and to count what is done of it."""
        spec = dump_sweep(self.plan.sweep).encode()
        self.store.files.write_if_changed(layout.sweep_file(self.name), spec)
        self._write("lineages", tables.build_lineages(self.name, self.plan.lineages))

    def _collect(self) -> None:
        missing = [key for key in self.news if key not in self.records]
        for key, record in self.store.records(missing).items():
            # Its spec is the one of its key: the plan's own, held once.
            spec = self.plan.rounds[key].spec
            self.records[key] = record.model_copy(update={"spec": spec})
        self.news.clear()

    def _write(self, table: str, rows) -> None:
        tables.write_table(self.store.files, layout.table(self.name, table), rows)
