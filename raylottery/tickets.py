"""Tickets: what rounds start from, drawn from what the store holds.

A ticket is drawn from its parent's record alone, and from the trunk's where it goes back to it: so
a lineage goes on from wherever it stopped, whoever trained the rounds before. Where nobody kept
the weights of the trunk that it goes back to, they are made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from raylottery.errors import LostRound, NothingToPrune, TrainingError
from raylottery.pruning import Masks, alter, apply_mask, prune
from raylottery.spec import Round, derive_seed
from raylottery.spec.sections import FROM_BEGINNING
from raylottery.store import Record, Store
from raylottery.store.tickets import pack, read_ticket, unpack
from raylottery.trainers.base import Start, Ticket, Trainer, Weights
from raylottery.trainers.untrained import UntrainedNet


log = logging.getLogger(__name__)

FIRST = 0
"""The replicate whose masks and weights all others have: they differ in the order of the data."""


def sow(round: Round, seed: int, trainer: Trainer) -> Ticket:
    """The dense network that a seed begins with."""
    weights = trainer.initial(seed)
    names = trainer.prunable(biases=round.biases, exclude=round.exclude).names
    return Ticket(weights=weights, masks=Masks.dense(weights, names), unmasked=weights)


def draw(round: Round, trainer: Trainer, store: Store) -> Ticket:
    """The ticket of a pruned round: mask from the parent, weights from the rewind point."""
    trained, masks = pruned(round, trainer, store)
    step = round.rewind_step
    weights = trained if step is None else rewound(round, step, trainer, store)
    if round.control != "ticket":
        weights, masks = alter(
            round.control,
            weights,
            masks,
            fresh=trainer.initial(afresh(round)),
            seed=derive_seed("control", *chance(round)),
        )
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


def pruned(round: Round, trainer: Trainer, store: Store) -> tuple[Weights, Masks]:
    """What the parent found: its weights, and its mask pruned once more."""
    assert round.parent is not None, "round 0 is sown, not drawn"
    assert round.prune is not None
    trained, masks = harvest(round.parent, store)
    masks = prune(
        trained,
        masks,
        round.prune,
        trainer.prunable(biases=round.biases, exclude=round.exclude),
        derive_seed("scores", round.seed, round.index, FIRST, *own_draw(round)),
        untrained(round, trainer),
    )
    return trained, masks


def chance(round: Round) -> tuple[int, ...]:
    """What a control draws by: the same in all arms and controls of a round, to pair them."""
    return round.seed, round.index, FIRST, round.draw


def afresh(round: Round) -> int:
    """The seed of a control's own initialisation."""
    return derive_seed("reinit", *chance(round))


def own_draw(round: Round) -> tuple[int, ...]:
    """What tells the random scores of one draw of a control from those of its first."""
    return (round.draw,) if round.draw and round.lineage_mode == "own" else ()


def untrained(round: Round, trainer: Trainer) -> UntrainedNet | None:
    """The network that the seed begins with, where scores look at it."""
    if round.prune is None or round.prune.score not in FROM_BEGINNING:
        return None
    weights = trainer.initial(round.seed)
    return UntrainedNet(trainer.spec, weights, data_seed(round, 0))


def drawing(round: Round, masks: Masks, trainer: Trainer) -> Callable[[Weights], Masks]:
    """What would be drawn from some weights, if the round ended now."""
    how, prunable = round.prune, trainer.prunable(biases=round.biases, exclude=round.exclude)
    assert how is not None
    chosen = (round.seed, round.index + 1, FIRST, *own_draw(round))
    seed = derive_seed("scores", *chosen)
    beginning = untrained(round, trainer)

    def drawn(weights: Weights) -> Masks:
        try:
            return prune(weights, masks, how, prunable, seed, beginning)
        except NothingToPrune:
            return masks  # this may be the last round, and no fault that none can follow

    return drawn


def data_seed(round: Round, index: int) -> int:
    """Of a round's own training, or of the dense one's, which all replicates stand on."""
    return derive_seed("data", round.seed, index, round.replicate if index else FIRST)


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
    ticket = sow(round, round.seed, trainer)
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
    outcome = trainer.train(start)
    if outcome.digests[until] != known[until]:
        raise TrainingError(
            f"the snapshot at step {step} of trunk {round.trunk[:12]} was not kept and cannot be "
            f"remade here: training it again on {trainer.device} gives other bits than on "
            f"{trunk.device} with raylottery {trunk.version}. Use the machine and versions that "
            f"trained it, or another store"
        )
    store.put_snapshot(round.trunk, step, pack({"weights": outcome.snapshots[step]}))
    return outcome.snapshots[step]
