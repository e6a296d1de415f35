"""The finished rounds of a sweep, and what the store holds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from raylottery.errors import NothingYet, NotKept, UsageError
from raylottery.spec import Lineage, Round, Sweep, lineages
from raylottery.store import Record, Store
from raylottery.store.rounds import READERS, in_parallel
from raylottery.store.tables import in_order, read_layers
from raylottery.store.tickets import Sections, read_ticket
from raylottery.store.trimmed import note_of
from raylottery.trainers.narrow import narrowed
from raylottery.trainers.shuffled import shuffled


Step = TypeVar("Step")
Tell = Callable[[int, int], None]
"""Is told how many of a probe's steps are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished round of a lineage."""

    sweep: str
    lineage: Lineage
    round: Round
    record: Record

    @property
    def is_ticket(self) -> bool:
        """Whether it is the lineage's own, and no control."""
        return self.round.control == "ticket"

    @property
    def density(self) -> float:
        return self.record.result["density"]

    @property
    def study(self) -> Sweep:
        """That of its network."""
        study = self.lineage.arm.study
        return narrowed(study, self.record.result["kept"]) if self.round.is_narrowed else study

    @property
    def measured(self) -> Sweep:
        """That of its network and of the data it is measured on."""
        return shuffled(self.study, self.round) if self.round.shuffles else self.study

    def head(self) -> dict[str, Any]:
        """The columns that every table begins with."""
        return {
            "sweep": self.sweep,
            "arm": self.lineage.arm.id,
            "arm_label": self.lineage.arm.label,
            "lineage": self.lineage.id,
            "seed": self.lineage.seed,
            "round": self.round.index,
            "density": self.density,
        }

    def control_head(self) -> dict[str, Any]:
        """The same where controls have rows too."""
        round = self.round
        said = {"control": round.control, "lineage_mode": round.lineage_mode, "draw": round.draw}
        return {**self.head(), **said}


@dataclass(frozen=True, kw_only=True)
class FinishedRounds:
    """The finished rounds of a sweep, in the order of its tables."""

    sweep: Sweep
    store: Store
    rounds: Sequence[Finished]
    missing: int
    """Distinct rounds that are not finished."""
    tell: Tell

    @classmethod
    def of(cls, sweep: Sweep, store: Store, tell: Tell = lambda done, total: None) -> Self:
        members = lineages(sweep)
        keys = {round.key for line in members for round in line.rounds}
        records = store.records(keys)
        if not records:
            raise NothingYet(
                f"no round of {sweep.name} is finished yet. See `raylottery status {sweep.name}`"
            )
        rounds = [
            Finished(sweep=sweep.name, lineage=line, round=round, record=records[round.key])
            for line, round in in_order(members)
            if round.key in records
        ]
        missing = len(keys) - len(records)
        return cls(sweep=sweep, store=store, rounds=rounds, missing=missing, tell=tell)

    @property
    def masked(self) -> list[Finished]:
        """Those with masks over the study's own network: a small-dense one has another."""
        return [finished for finished in self.rounds if not finished.round.is_narrowed]

    def each(self, steps: Iterable[Step], total: int) -> Iterator[Step]:
        """Goes through the steps of a probe, and tells when one is done."""
        for done, step in enumerate(steps, 1):
            yield step
            self.tell(done, total)

    def tickets(self, wanted: Sequence[Finished]) -> Iterator[tuple[Finished, Sections]]:
        """What some rounds kept, read a few at a time."""
        for first in range(0, len(wanted), READERS):
            some = wanted[first : first + READERS]
            yield from zip(some, in_parallel(self.ticket, some), strict=True)

    def ticket(self, finished: Finished) -> Sections:
        """What a round kept; UsageError where that went on a sweep's word."""
        try:
            return read_ticket(finished.record, self.store)
        except NotKept as error:
            raise UsageError(self._gone(finished)) from error

    def layers(
        self, wanted: Sequence[Finished]
    ) -> Iterator[tuple[Finished, dict[str, dict[str, Any]]]]:
        """By name, the rows of `layers.parquet`, which stay whatever is kept of tickets."""
        parts, lost = read_layers(self.store, {f.round.key: f.record for f in wanted})
        if lost:
            raise lost[0]
        for finished in wanted:
            yield finished, {row["layer"]: row for row in parts[finished.round.key].to_pylist()}

    def _gone(self, finished: Finished) -> str:
        """Says which round let its ticket go, and what would keep it."""
        line, round = finished.lineage, finished.round
        note = note_of(round.key, self.store.files)
        by = "" if note is None else f" by the sweep {note.sweep!r} (keep: {note.keep})"
        again = self.sweep.name if note is None else note.sweep
        kept = "`keep: tickets`"
        if finished.is_ticket:
            planned = (1 - line.arm.study.prune.fraction) ** round.index
            kept += f", or `keep: {{what: last, densities: [{planned:.3g}]}}`,"
        return (
            f"the ticket of round {round.index} ({round.name}) of lineage {line.id} "
            f"({line.arm.label}, seed {line.seed}) was let go{by}. {kept} keeps it: run {again} "
            f"again with that, and the round is trained again"
        )
