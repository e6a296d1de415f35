"""Iterative magnitude pruning, as the paper has it.

    Train the dense network. Prune the smallest of what is left. Put the survivors back to what
    they were early in the dense training. Train again; repeat.

A round that the store holds is not trained again, and its ticket is drawn from what the store
holds (`tickets.py`). So a lineage goes on from wherever it stopped, whoever trained the rounds
before, and lineages that share rounds (the dense one, above all) share the work. Lineages of one
shape go in lockstep: at each round, all tickets that are due are handed to the trainer together.

Where a file of the parent, or of the trunk, turns out to be damaged or gone, that round is set
aside and trained again first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

from raylottery.errors import LostRound, RaylotteryError
from raylottery.pruning import Masks, apply_mask
from raylottery.pruning.profile import profile
from raylottery.spec import Lineage, Round, Sweep
from raylottery.spec.rounds import goes_by_masks
from raylottery.store import Record, Store
from raylottery.store.tables import CURVE, LAYER, to_bytes
from raylottery.store.tickets import TICKET, Sections, pack, read_ticket, unpack
from raylottery.tickets import (
    afresh,
    data_seed,
    draw,
    drawing,
    finished,
    pruned,
    rewound,
    sow,
)
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Aside, Outcome, Previous, Start, Ticket, Trainer, Weights
from raylottery.trainers.narrow import narrowed


LOSSES = 3
"""So often a round is trained again in a row because its files are lost: then the disk is."""


class Busy(Exception):
    """A round that is due here is being trained by someone else."""

    def __init__(self, round: Round):
        self.round = round
        super().__init__(f"round {round.index} ({round.key[:12]}) is being trained elsewhere")


class RoundFailed(RaylotteryError):
    """A round could not be trained; its cause is chained."""

    def __init__(self, round: Round, cause: Exception):
        self.round = round
        self.cause = cause
        super().__init__(f"round {round.index} ({round.name}): {cause}")


def grow(
    lineages: Sequence[Lineage],
    trainer: Trainer,
    store: Store,
    *,
    sweep: str,
    extents: Mapping[str, Sequence[int]],
) -> Iterator[tuple[Round, Record]]:
    """Train every unfinished round of the lineages, and yield each as it is committed.

    `extents` names, for each trunk, the steps at which it is to leave a snapshot. Raises `Busy`
    at a round that someone else is training: come back later. A round that was done, and is lost,
    is yielded again.
    """
    losses: Counter[str] = Counter()
    while True:
        try:
            yield from advance(lineages, trainer, store, sweep, extents)
            return
        except RoundFailed as failure:
            lost = failure.cause
            if not isinstance(lost, LostRound) or losses[lost.key] == LOSSES:
                raise
            losses[lost.key] += 1
            if not store.set_aside(lost.key):
                raise Busy(failure.round) from failure


def advance(
    lineages: Sequence[Lineage],
    trainer: Trainer,
    store: Store,
    sweep: str,
    extents: Mapping[str, Sequence[int]],
) -> Iterator[tuple[Round, Record]]:
    """Train every unfinished round; RoundFailed, of a LostRound where one stands on such."""
    last = max(lineage.rounds[-1].index for lineage in lineages)
    studies = {round.key: line.arm.study for line in lineages for round in line.rounds}
    setbacks: list[RoundFailed] = []
    failed: set[str] = set()
    """Rounds of controls that failed, and those of own lineages that stand on them."""
    for index in range(last + 1):
        rounds = {r.key: r for line in lineages for r in line.rounds if r.index == index}
        done = store.done(rounds)
        failed |= {key for key, round in rounds.items() if round.parent in failed} - done
        due = [round for key, round in rounds.items() if key not in done | failed]
        for batch in batches(due, trainer.capacity):
            with leased(store, batch) as attempts, ExitStack() as stack:
                began = datetime.now(UTC)
                fit = trainer
                try:
                    if attempts and batch[0].is_narrowed:
                        fit = narrow(batch[0], studies[batch[0].key], trainer, store)
                        stack.callback(fit.close)
                    starts = [begin(round, fit, store, extents) for round in attempts]
                    outcomes = fit.train(starts)
                except Exception as error:
                    setbacks.append(RoundFailed(batch[0], error))
                    lost = isinstance(error, LostRound)
                    if lost or any(round.control == "ticket" for round in batch):
                        raise setbacks[-1] from error
                    failed |= {round.key for round in batch}
                    continue
                records = [
                    commit(round, start.ticket, outcome, fit, store, sweep, attempt, began)
                    for (round, attempt), start, outcome in zip(
                        attempts.items(), starts, outcomes, strict=True
                    )
                ]
            yield from zip(attempts, records, strict=True)
    if setbacks:
        raise setbacks[0] from setbacks[0].cause


def begin(
    round: Round, trainer: Trainer, store: Store, extents: Mapping[str, Sequence[int]]
) -> Start:
    """A round's ticket, and the stretch of the schedule it is trained over."""
    dense = round.index == 0
    if dense:
        ticket = sow(round, round.seed, trainer)
    elif round.is_narrowed:
        ticket = sow(round, afresh(round), trainer)
    else:
        ticket = draw(round, trainer, store)
    return Start(
        ticket=ticket,
        data_seed=data_seed(round, round.index),
        trunk_seed=data_seed(round, 0),
        clock=round.clock,
        end=round.end,
        length=round.length,
        previous=None if dense else left_by(round, store),
        searching=round.lineage_mode == "own",
        next_masks=drawing(round, ticket.masks, trainer) if goes_by_masks(round.stop) else None,
        keep=tuple(sorted({0, *extents.get(round.key, ())})) if dense else (),
        aside=aside(round, store),
    )


def aside(round: Round, store: Store) -> Aside:
    """Where an unfinished round may be put aside, until it is committed."""

    def load() -> tuple[Sections, dict[str, str]] | None:
        data = store.aside(round.key)
        return None if data is None else unpack(data)

    def save(sections: Mapping[str, Weights], said: Mapping[str, str]) -> None:
        store.put_aside(round.key, pack(sections, said))

    return Aside(load=load, save=save)


def left_by(round: Round, store: Store) -> Previous:
    """What the round before ended with, besides the ticket that is drawn from it."""
    assert round.parent is not None
    sections = read_ticket(finished(round.parent, store), store)
    weights = sections.get("stopped", sections["trained"])
    return Previous(weights=weights, carried=sections.get("carried", {}))


def narrow(round: Round, study: Sweep, trainer: Trainer, store: Store) -> Trainer:
    """A trainer of the network that has as many weights as the ticket of a round keeps."""
    _, masks = pruned(round, trainer, store)
    trainer.close()  # two at once may be more than a trial has room for
    return make_trainer(narrowed(study, masks.kept), gpu=trainer.device != "cpu")


def started(round: Round, mask: Weights, trainer: Trainer, store: Store) -> Weights:
    """The weights that a finished round with this mask started from: its parent's ticket may have
    gone since."""
    if round.control != "ticket" or round.rewind_step is None:
        return begin(round, trainer, store, {}).ticket.weights
    return apply_mask(rewound(round, round.rewind_step, trainer, store), Masks(mask))


def commit(
    round: Round,
    ticket: Ticket,
    outcome: Outcome,
    trainer: Trainer,
    store: Store,
    sweep: str,
    attempt: int,
    began: datetime,
) -> Record:
    """Put a finished round into the store: snapshots and files first, its record last."""
    for step, weights in outcome.snapshots.items():
        store.put_snapshot(round.key, step, pack({"weights": weights}))
    layers = profile(ticket.masks, trainer.positions())
    prunable = ticket.masks.prunable
    if round.is_narrowed:
        assert round.parent is not None
        prunable = finished(round.parent, store).result["prunable"]
    sections = {
        "mask": ticket.masks,
        "trained": outcome.weights,
        "stopped": outcome.stopped or {},
        "carried": outcome.carried,
    }
    return store.commit(
        round,
        files={
            "curve.parquet": to_bytes([asdict(point) for point in outcome.curve], CURVE),
            "layers.parquet": to_bytes([asdict(layer) for layer in layers], LAYER),
            TICKET: pack(sections),
        },
        result={
            "density": ticket.masks.kept / prunable,
            "prunable": prunable,
            "kept": ticket.masks.kept,
            "total_params": trainer.total_params(),
            "revived": outcome.revived,
            **asdict(outcome.scores),
            "digests": {str(step): digest for step, digest in outcome.digests.items()},
        },
        sweep=sweep,
        attempt=attempt,
        seconds=outcome.seconds,
        started_at=began,
        finished_at=datetime.now(UTC),
        device=trainer.device,
    )


@contextmanager
def leased(store: Store, rounds: Sequence[Round]) -> Generator[dict[Round, int]]:
    """Hold the rounds' leases; yields those still to train, with the number of the attempt."""
    with ExitStack() as held:
        attempts = {}
        for round in rounds:
            lease = store.lease(round.key)
            if lease is None:
                raise Busy(round)
            attempt = held.enter_context(lease).attempt
            if not store.done([round.key]):  # someone else may have finished it meanwhile
                attempts[round] = attempt
        yield attempts


def batches(rounds: Iterable[Round], size: int) -> Iterator[list[Round]]:
    """The rounds in lists of at most `size`; what needs a trainer of its own alone."""
    rounds = list(rounds)
    whole = [round for round in rounds if not round.is_narrowed]
    for first in range(0, len(whole), size):
        yield whole[first : first + size]
    for round in rounds:
        if round.is_narrowed:
            yield [round]
