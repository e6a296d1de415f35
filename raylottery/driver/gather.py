"""The driver's side of the store: the sweep's own folder, derived from the rounds.

The table of rounds is rewritten while a sweep runs, but no more often than every ten seconds and
for no more than a fiftieth of its time; curves and layers, which are long, at the end or at an
interrupt alone. Rounds whose files turn out to be damaged then are set aside and left out of all
tables.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

from raylottery.driver.plan import Plan
from raylottery.driver.provenance import provenance
from raylottery.driver.stored import describe, keep_of
from raylottery.errors import Damaged, LostRound, StoreError
from raylottery.store import Record, Store, layout, tables
from raylottery.store.provenance import read_provenance, write_provenance
from raylottery.store.rounds import tell


EVERY_S = 10.0
SHARE = 0.02
AT_A_TIME = 2000
"""Records that are objects at once."""

log = logging.getLogger(__name__)


class Shelf(MutableMapping[str, Record]):
    """The records of a plan's rounds in a tenth of the room that objects take: there may be a
    hundred thousand of them. Their specs are those of their keys, which the plan has."""

    def __init__(self, plan: Plan):
        self._rounds = plan.rounds
        self._packed: dict[str, bytes] = {}

    def __getitem__(self, key: str) -> Record:
        record = Record.model_validate_json(zlib.decompress(self._packed[key]))
        return record.model_copy(update={"spec": self._rounds[key].spec})

    def __setitem__(self, key: str, record: Record) -> None:
        bare = record.model_copy(update={"spec": {}}).model_dump_json(by_alias=True)
        self._packed[key] = zlib.compress(bare.encode(), 1)

    def __delitem__(self, key: str) -> None:
        del self._packed[key]

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Gatherer:
    """Collects the records of a plan's rounds and writes the sweep's tables from them."""

    def __init__(self, plan: Plan, store: Store):
        self.plan = plan
        self.store = store
        self.name = plan.sweep.name
        self.records = Shelf(plan)
        self.news = set(plan.done)
        """Rounds that are known to have a record which was not read yet."""
        self.lost: dict[str, LostRound] = {}
        """Rounds that were done and are to be trained again."""
        self.said = b""
        """What the sweep is, once it was said."""
        self.began = self.last = time.monotonic()
        self.spent = 0.0

    def open(self) -> None:
        """Say what the sweep is, and who trains it, before anything of it is trained."""
        self.describe()
        write_provenance(self.name, self.store.files, provenance())

    def heard(self, key: str) -> None:
        """A round was committed, perhaps in place of one that was lost."""
        self.records.pop(key, None)
        self.news.add(key)

    def tick(self) -> None:
        """Rewrite the rounds table if it is time to; the first round of all is told at once."""
        now = time.monotonic()
        due = now - self.last >= EVERY_S and self.spent <= SHARE * (now - self.began)
        if due or (self.news and not self.records):
            try:
                self.write_rounds()
            except StoreError as error:
                log.warning("the table of rounds waits for the store: %s", error)
                self.last = now

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
        self._mend_provenance()
        known = self.plan.done | self.records.keys() | self.news
        self.news.update(self.plan.rounds)
        self._collect()
        unread = [self.store.loss(key) for key in known - self.records.keys()]
        curves, no_curves = tables.read_curves(self.store, self.records)
        layers, no_layers = tables.read_layers(self.store, self.records)
        found = (*filter(None, unread), *no_curves, *no_layers)
        self.lost = {lost.key: lost for lost in found}
        for key in self.lost:
            for kept in (self.records, curves, layers):
                kept.pop(key, None)
            self.store.set_aside(key)
        self.write_rounds()
        lineages = self.plan.lineages
        self._write("curves", tables.build_curves(self.name, lineages, curves))
        self._write("layers", tables.build_layers(self.name, lineages, layers))
        self._write("failures", tables.build_failures(self.store, self.name, lineages))

    def describe(self) -> None:
        """What the sweep is: enough for others to list it and to count what is done of it.

        Of two runs at once the one that began last says what is kept.
        """
        sweep = self.plan.sweep
        if self.said:
            with suppress(Damaged):  # it is written anew then
                keep = keep_of(sweep, self.said, self.store)
                if keep != sweep.keep:
                    log.warning("another run of %s has begun since, with keep: %s: that holds. "
                                "To have it otherwise, run it again", self.name, keep)  # fmt: skip
                sweep = sweep.model_copy(update={"keep": keep})
        self.said = describe(sweep, self.store)
        self._write("lineages", tables.build_lineages(self.name, self.plan.lineages))

    def _mend_provenance(self) -> None:
        """Where nobody can say any more who ran the sweep, this process does now."""
        try:
            known = read_provenance(self.name, self.store.files) is not None
        except Damaged as error:
            tell(error)
            known = False
        if not known:
            write_provenance(self.name, self.store.files, provenance())

    def _collect(self) -> None:
        missing = [key for key in self.news if key not in self.records]
        for begin in range(0, len(missing), AT_A_TIME):
            self.records.update(self.store.records(missing[begin : begin + AT_A_TIME]))
        self.news.clear()

    def _write(self, table: str, rows) -> None:
        tables.write_table(self.store.files, layout.table(self.name, table), rows)
