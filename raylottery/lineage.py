"""Iterative magnitude pruning, as the paper has it.

    Train the dense network. Prune the smallest of what is left. Put the survivors back to what
    they were early in the dense training. Train again; repeat.

A round that the store holds is not trained again, and its ticket is drawn from what the store
holds (`tickets.py`). So a lineage goes on from wherever it stopped, whoever trained the rounds
before, and lineages that share rounds (the dense one, above all) share the work.

Where a file of the parent, or of the trunk, turns out to be damaged or gone, that round is set
aside and trained again first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
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
from raylottery.trainers.shuffled import shuffled


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
    lineage: Lineage,
    trainer: Trainer,
    store: Store,
    *,
    sweep: str,
    extents: Mapping[str, Sequence[int]],
) -> Iterator[tuple[Round, Record]]:
    """Train every unfinished round of a lineage, and yield each as it is committed.

    `extents` names, for each trunk, the steps at which it is to leave a snapshot. Raises `Busy`
    at a round that someone else is training: come back later. A round that was done, and is lost,
    is yielded again.
    """
    losses: Counter[str] = Counter()
    while True:
        try:
            yield from advance(lineage, trainer, store, sweep, extents)
            return
        except RoundFailed as failure:
            lost = failure.cause
            if not isinstance(lost, LostRound) or losses[lost.key] == LOSSES:
                raise
            losses[lost.key] += 1
            if not store.set_aside(lost.key):
                raise Busy(failure.round) from failure


def advance(
    lineage: Lineage,
    trainer: Trainer,
    store: Store,
    sweep: str,
    extents: Mapping[str, Sequence[int]],
) -> Iterator[tuple[Round, Record]]:
    """Train every unfinished round; RoundFailed, of a LostRound where one stands on such."""
    done = store.done(round.key for round in lineage.rounds)
    setbacks: list[RoundFailed] = []
    failed: set[str] = set()
    """Rounds of controls that failed, and those of own lineages that stand on them."""
    for round in lineage.rounds:
        if round.key in done:
            continue
        if round.parent in failed:
            failed.add(round.key)
            continue
        with leased(round, store) as attempt, ExitStack() as stack:
            if attempt is None:
                continue
            began = datetime.now(UTC)
            fit = trainer
            try:
                study = lineage.arm.study
                if round.is_narrowed:
                    fit = stack.enter_context(narrow(round, study, trainer, store))
                start = begin(round, fit, store, extents)
                if round.shuffles:  # its ticket is drawn from the data as they are
                    fit = stack.enter_context(instead(trainer, shuffled(study, round)))
                outcome = fit.train(start)
            except Exception as error:
                setbacks.append(RoundFailed(round, error))
                if isinstance(error, LostRound) or round.control == "ticket":
                    raise setbacks[-1] from error
                failed.add(round.key)
                continue
            record = commit(round, start.ticket, outcome, fit, store, sweep, attempt, began)
        yield round, record
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


def narrow(
    round: Round, study: Sweep, trainer: Trainer, store: Store
) -> AbstractContextManager[Trainer]:
    """A trainer of the network that has as many weights as the ticket of a round keeps."""
    _, masks = pruned(round, trainer, store)
    return instead(trainer, narrowed(study, masks.kept))


def instead(trainer: Trainer, study: Sweep) -> AbstractContextManager[Trainer]:
    """A trainer of another study, for as long as a round takes."""
    trainer.close()  # two at once may be more than a trial has room for
    return closing(make_trainer(study, gpu=trainer.device != "cpu"))


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
def leased(round: Round, store: Store) -> Generator[int | None]:
    """Hold a round's lease; yields the number of the attempt, None where it is done by now."""
    lease = store.lease(round.key)
    if lease is None:
        raise Busy(round)
    with lease:
        yield None if store.done([round.key]) else lease.attempt
