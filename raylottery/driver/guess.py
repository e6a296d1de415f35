"""What the rounds that a plan has to do will take: space in the store, and time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from raylottery.driver.keep import Kept, Piece, kept, left
from raylottery.driver.plan import Plan
from raylottery.store import Store


if TYPE_CHECKING:
    from raylottery.trainers.survey import Survey


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the rounds to do will take."""

    megabytes: float
    """That the store is larger by in the end."""
    megabytes_peak: float
    """That it is larger by on the way, at most: with all lineages at once."""
    worker_seconds: float | None
    """None where the store holds no training of this sweep to go by."""


def guess(plan: Plan, store: Store | None, surveys: Mapping[str, Survey]) -> Guess:
    """Size from the networks' parameters, time from what this sweep's own rounds took so far."""
    parameters = {
        round.key: surveys[lineage.arm.id].total_params
        for lineage in plan.lineages
        for round in plan.unfinished(lineage)
    }

    def bytes_of(pieces: Iterable[Piece]) -> int:
        """Weights are float32; a ticket has a byte of mask besides for each."""
        return sum(
            parameters[piece.key] * (5 if piece.step is None else 4)
            for piece in pieces
            if piece.key in parameters
        )

    all_left = left(plan.lineages)
    stay = kept(Kept(plan.lineages, plan.sweep.keep))
    measured = sample(plan, store) if store is not None else []
    seconds = None
    if measured:
        updates = sum(round.end - round.clock for round in plan.todo)
        seconds = updates * median(measured)
    return Guess(
        megabytes=bytes_of(stay) / 1e6,
        megabytes_peak=bytes_of(stay | (all_left & on_the_way(plan))) / 1e6,
        worker_seconds=seconds,
    )


def on_the_way(plan: Plan) -> set[Piece]:
    """What is there for a while, at the most, when all lineages are trained at once.

    The trunks, and of each lineage the ticket that it trains (with a control, if there are some)
    and the one that this is drawn from: as many as its last two rounds leave.
    """
    found = set()
    for line in plan.lineages:
        dense, rounds = line.rounds[0], line.arm.study.prune.rounds
        found |= {Piece(dense.key)} | {p for p in left([line]) if p.step is not None}
        last = [r for r in line.rounds if r.index >= rounds - 1 and r.lineage_mode == "own"]
        found |= {Piece(r.key) for r in [*last, line.rounds[-1]]}
    return found


def sample(plan: Plan, store: Store, most: int = 20) -> list[float]:
    """Seconds an update took in some of the sweep's finished rounds."""
    done = sorted(plan.done)
    chosen = done[:: max(1, math.ceil(len(done) / most))]
    records = [store.record(key) for key in chosen]
    return [
        record.seconds / steps
        for record in records
        if record is not None and (steps := record.result["steps"])  # a ticket may not be trained
    ]
