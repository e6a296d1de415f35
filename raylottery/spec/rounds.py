"""The rounds of a lineage: what each starts from, how far it trains, and its key.

A round is data: where its mask comes from, where its weights come from, where its clock starts.
Rewinding to init or late, learning-rate rewinding, fine-tuning and every control differ in these
alone. Its key is the fingerprint of all that determines it, its parent's key included.

The dense round 0 holds nothing of pruning, rewinding or controls: it is the trunk that all arms
with one trainer and one seed share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raylottery.spec.controls import CONTROLS
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
    """The lineage's own ticket of the round before, also for a control; None for round 0."""
    trunk: str
    index: int
    seed: int
    replicate: int = 0
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
    rounds = [dense]
    parent = dense
    for index in range(1, study.prune.rounds + 1):
        ticket, *controls = (
            pruned_round(study, shared, parent, dense, index, control)
            for control in ("ticket", *study.controls)
        )
        rounds += [ticket, *controls]
        parent = ticket
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


def pruned_round(
    study: Sweep, shared: Shared, parent: Round, dense: Round, index: int, control: str
) -> Round:
    """A round that prunes its parent's ticket and rewinds: the ticket, or a control of it."""
    length = study.stop.length_of(study.trainer.total_steps, study.prune, index)
    weights, rewind_step, clock, end = _rewound(study, length)
    spec = {**shared.pruned, "seed": dense.seed, "round": index, "parent": parent.key}
    mask = "imp"
    if control != "ticket":
        spec["control"] = {"name": control, "draw": 0}
        sources = CONTROLS[control]
        mask = sources.mask
        if sources.weights != "ticket":
            weights = sources.weights
        if weights == "reinit":
            # Fresh weights come from no rewind point, and there is nothing of them to fine-tune.
            rewind_step = None
            spec["weights"] = weights
            if study.rewind.restart == "final":
                clock, end = 0, length
                spec |= {"clock": clock, "end": end}
    return Round(
        key=fingerprint(spec),
        parent=parent.key,
        trunk=dense.key,
        index=index,
        seed=dense.seed,
        control=control,
        lineage_mode="own" if control == "ticket" else "branch",
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
