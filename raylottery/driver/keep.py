"""What of finished rounds may go, as a sweep's `keep` says, and who takes it away.

A piece is a ticket, or a snapshot of a trunk. It may go when its own round is finished, and every
round that is trained from it, in whatever sweep of the store, and no sweep keeps it. What each
sweep keeps and needs follows from its plan. The other sweeps are looked at when a run begins and
when it ends; one that cannot be read may need anything, so nothing goes. Of two runs of one sweep
that keep different things, the one that began last has the word.

A piece that went is missed by whoever needs it later: its round is trained again.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

from raylottery.driver.plan import Plan
from raylottery.driver.stored import keep_of, stored_sweep, written
from raylottery.errors import RaylotteryError, StoreError
from raylottery.spec import Lineage, Prune, Round, lineages
from raylottery.spec.controls import nearest_round
from raylottery.spec.keep import Keep
from raylottery.store import Store, layout
from raylottery.store.rounds import in_parallel
from raylottery.store.trimmed import has_gone, let_go


EVERY_S = 10.0
"""Between two times that a run takes away what may go."""

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """A round's ticket, or a snapshot of it."""

    key: str
    step: int | None = None
    """Of a snapshot."""


class Kept(NamedTuple):
    """A sweep's rounds, and what is to stay of them."""

    lineages: Sequence[Lineage]
    keep: Keep


def stands_on(round: Round) -> tuple[Piece, ...]:
    """What a round is trained from."""
    if round.parent is None:
        return ()
    ticket = Piece(round.parent)
    step = round.rewind_step
    return (ticket,) if step is None else (ticket, Piece(round.trunk, step))


def left(lineages: Iterable[Lineage]) -> set[Piece]:
    """All pieces that some lineages leave; of every trunk, its beginning too."""
    rounds = {round.key: round for line in lineages for round in line.rounds}.values()
    found = {piece for round in rounds for piece in stands_on(round)}
    return (
        found | {Piece(r.key) for r in rounds} | {Piece(r.key, 0) for r in rounds if not r.index}
    )


def nearest_rounds(prune: Prune, densities: Iterable[float]) -> set[int]:
    """The rounds whose planned densities come nearest to some."""
    return {nearest_round(density, prune.fraction, prune.rounds) for density in densities}


def kept(sweep: Kept) -> set[Piece]:
    """What a sweep keeps, whatever is finished."""
    what = sweep.keep.what
    if what == "all":
        return left(sweep.lineages)
    if what == "tickets":
        return {piece for piece in left(sweep.lineages) if piece.step is None}
    stay = {
        line.arm.id: nearest_rounds(line.arm.study.prune, sweep.keep.densities)
        | {line.arm.study.prune.rounds}
        for line in sweep.lineages
    }
    found = set()
    for line in sweep.lineages:
        for round in line.rounds:
            if round.control == "ticket" and round.index in stay[line.arm.id]:
                found.add(Piece(round.key))
            # What one more round would go back to.
            found |= {piece for piece in stands_on(round) if piece.step is not None}
    return found


class Releases:
    """Says of a sweep's pieces, as rounds are finished, which may go."""

    def __init__(self, sweep: Kept, others: Iterable[Kept], done: Set[str]):
        others = list(others)
        self.mine = left(sweep.lineages).difference(kept(sweep), *map(kept, others))
        self.waiting: dict[Piece, set[str]] = {piece: set() for piece in self.mine}
        """By piece, the unfinished rounds that keep it from going."""
        self._holds: dict[str, set[Piece]] = defaultdict(set)
        self._of: dict[str, set[Piece]] = defaultdict(set)
        for piece in self.mine:
            self._of[piece.key].add(piece)
            if piece.key not in done:
                self.hold(piece, piece.key)
        self.standing: dict[Piece, set[str]] = defaultdict(set)
        """By piece, the rounds that are trained from it."""
        for line in (line for each in (sweep, *others) for line in each.lineages):
            for round in line.rounds:
                for piece in stands_on(round):
                    if piece in self.mine:
                        self.standing[piece].add(round.key)
                        if round.key not in done:
                            self.hold(piece, round.key)

    def hold(self, piece: Piece, key: str) -> None:
        """A piece may not go before a round is finished."""
        self.waiting[piece].add(key)
        self._holds[key].add(piece)

    def ready(self) -> set[Piece]:
        """All that may go."""
        return {piece for piece, keys in self.waiting.items() if not keys}

    def finished(self, key: str) -> set[Piece]:
        """A round was committed, for the first time or again: what may go now, or again."""
        touched = self._holds.pop(key, set())
        for piece in touched:
            self.waiting[piece].discard(key)
        return {p for p in touched | self._of.get(key, set()) if not self.waiting[p]}


class Keeper:
    """Takes away what may go of a sweep while it runs."""

    def __init__(self, plan: Plan, store: Store):
        self.plan = plan
        self.store = store
        self.done = set(plan.done)
        self.look()

    def look(self) -> None:
        """See what this sweep and the others need, as the store has them now."""
        self.last = time.monotonic()
        sweep = self.plan.sweep
        others = None if sweep.keep.what == "all" else other_sweeps(sweep.name, self.store)
        mine = Kept(self.plan.lineages if others is not None else (), sweep.keep)
        ours = left(mine.lineages)
        theirs = {
            round.key
            for other in others or ()
            for line in other.lineages
            for round in line.rounds
            if not ours.isdisjoint(stands_on(round))
        }
        done = self.done | self.store.done(theirs - self.done)
        self.releases = Releases(mine, others or (), done)
        self.pending = self.releases.ready()

    def heard(self, key: str) -> None:
        """A round was committed."""
        self.done.add(key)
        self.pending |= self.releases.finished(key)

    def tick(self) -> None:
        """Take away what may go, if it is time to."""
        if self.pending and time.monotonic() - self.last >= EVERY_S:
            self.take_away()

    def finish(self) -> None:
        """Take away all that may go, as the store stands now."""
        if self.plan.sweep.keep.what != "all":
            self.done |= self.store.done(self.plan.rounds.keys() - self.done)  # by other drivers
            self.look()
            self.take_away()

    @cached_property
    def said(self) -> bytes:
        """What the sweep is, as this run says it."""
        return written(self.plan.sweep)

    def has_the_word(self) -> bool:
        """Whether the sweep keeps what this run was told, as the store has it now."""
        sweep = self.plan.sweep
        try:
            return keep_of(sweep, self.said, self.store) == sweep.keep
        except StoreError:
            return False

    def take_away(self) -> None:
        self.last = time.monotonic()
        if not self.has_the_word():
            return
        taken, self.pending = self.pending, set()
        failed = [error for error in in_parallel(self._take, taken) if error]
        if failed:
            log.warning("%s of %s files that `keep` lets go are still there: %s",
                        len(failed), len(taken), failed[0])  # fmt: skip

    def _take(self, piece: Piece) -> StoreError | None:
        """Remove a piece; what cannot be removed now is left to the next run."""
        store = self.store
        try:
            if piece.step is not None:
                path = layout.snapshot(piece.key, piece.step)
                if store.files.exists(path) and self._is_free(piece):
                    store.files.delete(path)
                return None
            record = store.record(piece.key)
            file = record.files.get(layout.TICKET) if record is not None else None
            if record is None or file is None:
                return None
            if store.files.exists(layout.round_file(piece.key, file.path)) and self._is_free(
                piece
            ):
                sweep = self.plan.sweep
                let_go(record, layout.TICKET, sweep.name, str(sweep.keep), store.files)
        except StoreError as error:
            return error
        return None

    def _is_free(self, piece: Piece) -> bool:
        """Whether nobody trains a round that needs it, or the round itself, as it turns out."""
        standing = self.releases.standing.get(piece, set())
        unfinished = standing - self.store.done(standing)
        for key in unfinished:
            self.releases.hold(piece, key)
        return not unfinished and not self.store.is_held(piece.key)


def other_sweeps(name: str, store: Store) -> list[Kept] | None:
    """The other sweeps of a store; None if one cannot be read."""
    found = []
    for other in store.sweeps():
        if other != name:
            try:
                sweep = stored_sweep(other, store)
            except (RaylotteryError, FileNotFoundError) as error:
                log.warning(
                    "nothing is let go, for it is not known what %r needs: %s", other, error
                )
                return None
            found.append(Kept(lineages(sweep), sweep.keep))
    return found


# What was let go and is needed after all


def missed(plan: Plan, store: Store) -> frozenset[str]:
    """Finished rounds whose tickets went, and that are to be trained again.

    Unfinished rounds are drawn from them, or the sweep itself let them go and keeps them by now.
    """
    found: set[str] = set()
    parents = {round.key: round.parent for round in plan.rounds.values()}
    ahead = {round.parent for round in plan.todo} | wanted_back(plan, store)
    while ahead := {key for key in ahead if key in plan.done} - found:
        gone = {key for key, note in gone_among(ahead, store).items()}
        found |= gone
        ahead = {parents[key] for key in gone}
    return frozenset(found)


def wanted_back(plan: Plan, store: Store) -> set[str]:
    """Finished rounds whose tickets this sweep let go by a `keep` that it has no more."""
    sweep = plan.sweep
    if not store.files.exists(layout.sweep_file(sweep.name)):
        return set()
    try:
        before = stored_sweep(sweep.name, store).keep
    except StoreError:
        return set()  # it is told of, and written anew, by who runs the sweep
    if before == sweep.keep:
        return set()
    now, then = (kept(Kept(plan.lineages, keep)) for keep in (sweep.keep, before))
    more = {piece.key for piece in now - then if piece.step is None} & plan.done
    return {key for key, by in gone_among(more, store).items() if by == sweep.name}


def gone_among(keys: Collection[str], store: Store) -> Mapping[str, str]:
    """Those of some finished rounds whose tickets went, and by the word of which sweep."""

    def look(key: str) -> str | None:
        if not store.files.exists(layout.trimmed(key)):
            return None
        record = store.record(key)
        note = None if record is None else has_gone(record, layout.TICKET, store.files)
        return None if note is None else note.sweep

    keys = sorted(keys)
    found = zip(keys, in_parallel(look, keys), strict=True)
    return {key: by for key, by in found if by is not None}


def with_missed(plan: Plan, store: Store) -> Plan:
    """The plan in which what is missed is to be trained again."""
    keys = missed(plan, store)
    return replace(plan, done=plan.done - keys, again=keys) if keys else plan


def recall(plan: Plan, store: Store) -> None:
    """Sets aside what a plan trains again; someone else who has begun with it is left alone."""
    if plan.again:
        log.warning("%s finished rounds are trained again: `keep` let their tickets go, and they "
                    "are needed now", len(plan.again))  # fmt: skip
        in_parallel(lambda key: store.set_aside(key, quiet=True), plan.again)
