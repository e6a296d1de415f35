"""Iterative magnitude pruning, as the paper has it.

    Train the dense network. Prune the smallest of what is left. Put the survivors back to what
    they were early in the dense training. Train again; repeat.

A round that the store holds is not trained again, and its ticket is drawn from its parent's
record alone. So a lineage goes on from wherever it stopped, whoever trained the rounds before,
and lineages that share rounds (the dense one, above all) share the work. Lineages of one shape go
in lockstep: at each round, all tickets that are due are handed to the trainer together.

Where a file of the parent, or of the trunk, turns out to be damaged or gone, that round is set
aside and trained again first.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

from raylottery.errors import LostRound, NothingToPrune, RaylotteryError, TrainingError
from raylottery.pruning import Masks, alter, apply_mask, prune
from raylottery.pruning.profile import profile
from raylottery.spec import Lineage, Round, derive_seed
from raylottery.spec.rounds import goes_by_masks
from raylottery.store import Record, Store
from raylottery.store.tables import CURVE, LAYER, to_bytes
from raylottery.store.tickets import TICKET, Sections, pack, read_ticket, unpack
from raylottery.trainers.base import Aside, Outcome, Previous, Start, Ticket, Trainer, Weights


log = logging.getLogger(__name__)

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
        super().__init__(f"round {round.index} ({round.control}): {cause}")


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
    setbacks: list[RoundFailed] = []
    for index in range(last + 1):
        rounds = {r.key: r for line in lineages for r in line.rounds if r.index == index}
        done = store.done(rounds)
        due = [round for key, round in rounds.items() if key not in done]
        for batch in chunks(due, trainer.capacity):
            with leased(store, batch) as attempts:
                began = datetime.now(UTC)
                try:
                    starts = [begin(round, trainer, store, extents) for round in attempts]
                    outcomes = trainer.train(starts)
                except Exception as error:
                    setbacks.append(RoundFailed(batch[0], error))
                    lost = isinstance(error, LostRound)
                    if lost or any(round.control == "ticket" for round in batch):
                        raise setbacks[-1] from error
                    continue
                records = [
                    commit(round, start.ticket, outcome, trainer, store, sweep, attempt, began)
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
    ticket = sow(round, trainer) if dense else draw(round, trainer, store)
    return Start(
        ticket=ticket,
        data_seed=data_seed(round, round.index),
        trunk_seed=data_seed(round, 0),
        clock=round.clock,
        end=round.end,
        length=round.length,
        previous=None if dense else left_by(round, store),
        searching=round.control == "ticket",
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


def data_seed(round: Round, index: int) -> int:
    return derive_seed("data", round.seed, index, round.replicate)


def drawing(round: Round, masks: Masks, trainer: Trainer) -> Callable[[Weights], Masks]:
    """What would be drawn from some weights, if the round ended now."""
    how, prunable = round.prune, trainer.prunable(biases=round.biases, exclude=round.exclude)
    assert how is not None
    seed = derive_seed("scores", round.seed, round.index + 1, round.replicate)

    def drawn(weights: Weights) -> Masks:
        try:
            return prune(weights, masks, how, prunable, seed=seed)
        except NothingToPrune:
            return masks  # this may be the last round, and no fault that none can follow

    return drawn


def left_by(round: Round, store: Store) -> Previous:
    """What the round before ended with, besides the ticket that is drawn from it."""
    assert round.parent is not None
    sections = read_ticket(finished(round.parent, store), store)
    weights = sections.get("stopped", sections["trained"])
    return Previous(weights=weights, carried=sections.get("carried", {}))


def sow(round: Round, trainer: Trainer) -> Ticket:
    """The dense network that a seed begins with."""
    weights = trainer.initial(round.seed)
    names = trainer.prunable(biases=round.biases, exclude=round.exclude).names
    return Ticket(weights=weights, masks=Masks.dense(weights, names), unmasked=weights)


def draw(round: Round, trainer: Trainer, store: Store) -> Ticket:
    """The ticket of a pruned round: mask from the parent, weights from the rewind point."""
    assert round.parent is not None, "round 0 is sown, not drawn"
    assert round.prune is not None
    trained, masks = harvest(round.parent, store)
    masks = prune(
        trained,
        masks,
        round.prune,
        trainer.prunable(biases=round.biases, exclude=round.exclude),
        seed=derive_seed("scores", round.seed, round.index, round.replicate),
    )
    step = round.rewind_step
    weights = trained if step is None else rewound(round, step, trainer, store)
    if round.control != "ticket":
        # The same in all arms and controls of a round, so that they are paired on it.
        chance = (round.seed, round.index, round.replicate, round.draw)
        weights, masks = alter(
            round.control,
            weights,
            masks,
            fresh=trainer.initial(derive_seed("reinit", *chance)),
            seed=derive_seed("control", *chance),
        )
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


def started(round: Round, mask: Weights, trainer: Trainer, store: Store) -> Weights:
    """The weights that a finished round with this mask started from: its parent's ticket may have
    gone since."""
    if round.control != "ticket" or round.rewind_step is None:
        return begin(round, trainer, store, {}).ticket.weights
    return apply_mask(rewound(round, round.rewind_step, trainer, store), Masks(mask))


def harvest(key: str, store: Store) -> tuple[Weights, Masks]:
    """What a finished round found: weights, at the end or where a stop rule ended the search, and
    the mask they were trained under."""
    sections = read_ticket(finished(key, store), store)
    return sections.get("stopped", sections["trained"]), Masks(sections["mask"])


def finished(key: str, store: Store) -> Record:
    """The record of a round that must be there, because another stands on it."""
    record = store.record(key)
    if record is None:
        problem = f"round {key} is gone from the store: run the sweep again to train it"
        raise LostRound(problem, key)
    return record


def rewound(round: Round, step: int, trainer: Trainer, store: Store) -> Weights:
    """The weights of the dense training at the rewind step, remade if nobody kept them."""
    kept = store.snapshot(round.trunk, step)
    if kept is not None:
        return unpack(kept)[0]["weights"]
    return remake(round, step, trainer, store)


def remake(round: Round, step: int, trainer: Trainer, store: Store) -> Weights:
    """Train the dense network's first steps again, and prove that they are the same to the bit."""
    trunk = finished(round.trunk, store)
    known = {int(at): digest for at, digest in trunk.result["digests"].items()}
    until = min((at for at in known if at >= step), default=None)
    if until is None:
        raise TrainingError(
            f"the stop rule ended the dense round at step {max(known)}, before step {step} that "
            f"this round rewinds to: rewind earlier, or leave stop.evaluate at full"
        )
    log.info("nobody kept step %s of trunk %s: training its first %s steps again",
             step, round.trunk[:12], until)  # fmt: skip
    ticket = sow(round, trainer)
    start = Start(
        ticket=ticket,
        data_seed=data_seed(round, 0),
        trunk_seed=data_seed(round, 0),
        clock=0,
        end=until,
        length=trunk.spec["trainer"]["length"],
        previous=None,
        searching=False,
        next_masks=None,
        keep=(step,),
    )
    [outcome] = trainer.train([start])
    if outcome.digests[until] != known[until]:
        raise TrainingError(
            f"the snapshot at step {step} of trunk {round.trunk[:12]} was not kept and cannot be "
            f"remade here: training it again on {trainer.device} gives other bits than on "
            f"{trunk.device} with raylottery {trunk.version}. Use the machine and versions that "
            f"trained it, or another store"
        )
    store.put_snapshot(round.trunk, step, pack({"weights": outcome.snapshots[step]}))
    return outcome.snapshots[step]


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
            "density": ticket.masks.density,
            "prunable": ticket.masks.prunable,
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


def chunks(rounds: Iterable[Round], size: int) -> Iterator[list[Round]]:
    """The rounds in lists of at most `size`."""
    rounds = list(rounds)
    for first in range(0, len(rounds), size):
        yield rounds[first : first + size]
