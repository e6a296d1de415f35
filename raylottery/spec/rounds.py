"""The rounds of a lineage: what each starts from, how far it trains, and its key.

A round is data: where its mask comes from, where its weights come from, where its clock starts.
Rewinding to init or late, learning-rate rewinding, fine-tuning and every control differ in these
alone. Its key is the fingerprint of all that determines it, its parent's key included.

The dense round 0 holds nothing of pruning, rewinding or controls: it is the trunk that all arms
with one trainer and one seed share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raylottery.spec.controls import CONTROLS, FROM_SCRATCH, Control
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import determinants, fingerprint
from raylottery.spec.sections import STOP_RULES, Stop
from raylottery.spec.sweep import Prune, Sweep


SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One training of one ticket."""

    key: str
    parent: str | None
    """The round before, from whose ticket its mask is drawn: the lineage's own, also for a control
    that branches off it; None for round 0."""
    trunk: str
    index: int
    seed: int
    replicate: int = 0
    """Which order of the data it is trained with: the same ticket may be trained with several."""
    control: str = "ticket"
    draw: int = 0
    lineage_mode: str = "own"
    mask_source: str
    weight_source: str
    rewind_step: int | None
    """Step of the trunk whose weights survivors go back to; None: they stay as they are."""
    clock: int
    end: int
    """It trains over the steps from `clock` to `end` of the schedule."""
    length: int
    """Steps that the whole schedule is stretched or shrunk to."""
    biases: bool
    """Whether the mask covers biases too."""
    exclude: tuple[str, ...]
    """What the mask does not cover, in the sweep file's patterns."""
    spec: dict[str, Any] = field(hash=False)
    """All that determines the round: `key` is its fingerprint."""
    prune: Prune | None
    """How masks are drawn; None where nothing in the round goes by it."""
    stop: Stop

    @property
    def name(self) -> str:
        """What it starts from, as comparisons call it; of several draws, which."""
        own = " (own)" if self.control != "ticket" and self.lineage_mode == "own" else ""
        return f"{self.control}{own}" + (f", draw {self.draw}" if self.draw else "")

    @property
    def is_narrowed(self) -> bool:
        """Whether it trains a narrower network than the study's, and no part of that."""
        return self.mask_source == "dense" and self.index > 0

    @property
    def shuffles(self) -> str | None:
        """What of the data is shuffled before it is trained, if anything is."""
        return CONTROLS[self.control].shuffles if self.control != "ticket" else None


@dataclass(frozen=True)
class Shared:
    """What the specs of a study's rounds share: worked out once, for its lineages may be many."""

    training: dict[str, Any]
    """Of all rounds."""
    pruned: dict[str, Any]
    """Of all but the dense one."""

    @classmethod
    def of(cls, study: Sweep) -> Shared:
        training = {"schema": SCHEMA, **_training(study)}
        return cls(training, {**training, **_pruning(study)})


def lineage_rounds(study: Sweep, seed: int, shared: Shared | None = None) -> tuple[Round, ...]:
    """The rounds of a study's lineage by index, each ticket before its controls."""
    shared = shared or Shared.of(study)
    dense = dense_round(study, shared, seed)
    ticket = Chain(study, shared, dense)
    controls = [
        (frozenset(control.rounds(study.prune.fraction, study.prune.rounds)), chain)
        for control in study.controls
        for chain in chains(study, shared, dense, control)
    ]
    rounds = [dense]
    for index in range(1, study.prune.rounds + 1):
        parent = ticket.parent
        rounds.append(ticket.next(index, parent))
        rounds += [chain.next(index, parent) for at, chain in controls if index in at]
    return tuple(rounds)


def dense_round(study: Sweep, shared: Shared, seed: int) -> Round:
    """Round 0, the trunk."""
    spec = {**shared.training, "seed": seed, "round": 0}
    if study.prune.biases:
        # What a round counts as prunable is part of its record.
        spec["biases"] = True
    if study.prune.exclude:
        spec["exclude"] = list(_ordered(study.prune.exclude))
    if carried := study.reset.carried:
        # The dense round leaves these behind only where a round after it will find them.
        spec["carries"] = list(carried)
    key = fingerprint(spec)
    return Round(
        key=key,
        parent=None,
        trunk=key,
        index=0,
        seed=seed,
        mask_source="dense",
        weight_source="init",
        rewind_step=None,
        clock=0,
        end=study.trainer.total_steps,
        length=study.trainer.total_steps,
        biases=study.prune.biases,
        exclude=_ordered(study.prune.exclude),
        spec=spec,
        prune=study.prune if goes_by_masks(study.stop) else None,
        stop=study.stop,
    )


@dataclass
class Chain:
    """The tickets of a lineage, or one draw of a control of them, round after round."""

    study: Sweep
    shared: Shared
    parent: Round
    """Its own round before."""
    control: Control | None = None
    draw: int = 0

    def next(self, index: int, ticket: Round) -> Round:
        """Its round of an index; `ticket` is the lineage's own of the round before."""
        if self.control is not None and self.control.lineage == "branch":
            return pruned_round(self.study, self.shared, ticket, index, self.control, self.draw)
        self.parent = pruned_round(
            self.study, self.shared, self.parent, index, self.control, self.draw
        )
        return self.parent


def chains(study: Sweep, shared: Shared, dense: Round, control: Control) -> Iterator[Chain]:
    """The draws of a control; one whose masks are drawn at random prunes by no score."""
    if scope := control.sources.scope:
        prune = study.prune.model_copy(update={"score": "random", "scope": scope})
        study = study.model_copy(update={"prune": prune})
        shared = Shared.of(study)
    for draw in range(control.draws):
        yield Chain(study, shared, dense, control, draw)


def pruned_round(
    study: Sweep, shared: Shared, parent: Round, index: int, control: Control | None, draw: int
) -> Round:
    """A round that prunes its parent's ticket and rewinds: the ticket, or a control of it."""
    length = study.stop.length_of(study.trainer.total_steps, study.prune, index)
    weights, rewind_step, clock, end = _rewound(study, length)
    spec = {**shared.pruned, "seed": parent.seed, "round": index, "parent": parent.key}
    mask = "imp"
    mode = "own" if control is None or control.lineage == "own" else "branch"
    if control is not None:
        sources = control.sources
        spec["control"] = {"name": control.kind, "draw": draw}
        if mode == "own" and study.stop.rule != "length":
            # It searches, so a rule may end it; without one it is the round that branches off.
            spec["control"]["lineage"] = mode
        mask = sources.mask
        if sources.weights != "ticket":
            weights = sources.weights
        if weights == "reinit":
            # Fresh weights come from no rewind point.
            rewind_step = None
            spec["weights"] = weights
        if weights in FROM_SCRATCH and study.rewind.restart == "final":
            # There is nothing of them to fine-tune.
            clock, end = 0, length
            spec |= {"clock": clock, "end": end}
    return Round(
        key=fingerprint(spec),
        parent=parent.key,
        trunk=parent.trunk,
        index=index,
        seed=parent.seed,
        control="ticket" if control is None else control.kind,
        replicate=draw + 1 if control is not None and control.sources.replicates else 0,
        draw=draw,
        lineage_mode=mode,
        mask_source=mask,
        weight_source=weights,
        rewind_step=rewind_step,
        clock=clock,
        end=end,
        length=length,
        biases=study.prune.biases,
        exclude=_ordered(study.prune.exclude),
        spec=spec,
        prune=study.prune,
        stop=study.stop,
    )


def _training(study: Sweep) -> dict[str, Any]:
    trainer = study.trainer
    found = {
        "trainer": {**trainer.determined(), "protocol": trainer.PROTOCOL},
        "eval": determinants(study.eval, trainer.steps),
    }
    if study.stop.rule != "length":
        names = ("rule", *STOP_RULES[study.stop.rule], "evaluate")
        found["stop"] = {name: getattr(study.stop, name) for name in names}
        if goes_by_masks(study.stop):
            found["stop"]["prune"] = _prune(study)
    return found


def _pruning(study: Sweep) -> dict[str, Any]:
    # Two ways to write one rewind are one rewind, so its points enter as what they come to.
    weights, _, clock, end = _rewound(study, study.trainer.total_steps)
    rewind = determinants(study.rewind, study.trainer.steps)
    del rewind["retrain"]
    found = {"prune": _prune(study), **rewind, "weights": weights, "clock": clock, "end": end}
    if study.stop.length_power:
        found["length_power"] = study.stop.length_power
    reset = determinants(study.reset, study.trainer.steps)
    if clock == 0:
        # A schedule that stands at a clock of 0 is at its start.
        reset = {name: value for name, value in reset.items() if value != "start"}
    return {**found, "reset": reset} if reset else found


def goes_by_masks(stop: Stop) -> bool:
    """Whether a rule looks at the masks that would be drawn now, and so at how they are drawn."""
    return stop.rule.startswith("mask-")


def _prune(study: Sweep) -> dict[str, Any]:
    prune = determinants(study.prune, study.trainer.steps)
    del prune["rounds"]
    if study.prune.scope != "layerwise":
        prune.pop("output", None)
    if study.prune.scope != "layerwise" or study.prune.conv == study.prune.fraction:
        prune.pop("conv", None)
    for name in prune.keys() & {"exclude", "only"}:
        prune[name] = list(_ordered(getattr(study.prune, name)))
    if "*" in prune.get("only", ()):
        del prune["only"]  # what is named besides all adds nothing
    return prune


def _ordered(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns in an order of ours: theirs means nothing."""
    return tuple(sorted(set(patterns)))


def _rewound(study: Sweep, length: int) -> tuple[str, int | None, int, int]:
    """Where weights come from, their step of the trunk, and the clock's start and end."""
    step = _step(study.rewind.weights, study)
    weights = "final" if step is None else f"step:{step}" if step else "init"
    clock = _step(study.rewind.restart, study)
    if clock is not None:
        return weights, step, clock, length
    if study.rewind.retrain is None:
        raise ValueError("a round whose clock stays at final needs rewind.retrain.")
    return weights, step, length, length + study.trainer.steps(study.rewind.retrain)


def _step(point: str | Extent, study: Sweep) -> int | None:
    """The step of the trunk that a point means; None for its end."""
    if point == "final":
        return None
    return study.trainer.at(point) if isinstance(point, Extent) else 0
