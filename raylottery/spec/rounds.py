"""The rounds of a lineage: what each starts from, how far it trains, and its key.

A round is data: where its mask comes from, where its weights come from, where its clock starts.
Rewinding to init or late, learning-rate rewinding, fine-tuning and every control differ in these
alone. Its key is the fingerprint of all that determines it, its parent's key included.

The dense round 0 holds nothing of pruning, rewinding or controls: it is the trunk that all arms
with one trainer and one seed share.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raylottery.spec.controls import CONTROLS
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import determinants, fingerprint
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
    biases: bool
    """Whether the mask covers biases too."""
    spec: dict[str, Any] = field(hash=False)
    """All that determines the round: `key` is its fingerprint."""
    prune: Prune | None


def lineage_rounds(study: Sweep, seed: int) -> tuple[Round, ...]:
    """The rounds of a study's lineage by index, each ticket before its controls."""
    dense = dense_round(study, seed)
    rounds = [dense]
    parent = dense
    for index in range(1, study.prune.rounds + 1):
        ticket = pruned_round(study, parent, dense, index)
        rounds.append(ticket)
        rounds += [pruned_round(study, parent, dense, index, name) for name in study.controls]
        parent = ticket
    return tuple(rounds)


def dense_round(study: Sweep, seed: int) -> Round:
    """Round 0, the trunk."""
    spec = {"schema": SCHEMA, **_training(study), "seed": seed, "round": 0}
    if study.prune.biases:
        # What a round counts as prunable is part of its record.
        spec["biases"] = True
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
        biases=study.prune.biases,
        spec=spec,
        prune=None,
    )


def pruned_round(
    study: Sweep, parent: Round, dense: Round, index: int, control: str = "ticket"
) -> Round:
    """A round that prunes its parent's ticket and rewinds: the ticket, or a control of it."""
    weights, rewind_step, clock, end = _rewound(study)
    total = study.trainer.total_steps
    spec = {
        "schema": SCHEMA,
        **_training(study),
        **_pruning(study),
        "seed": dense.seed,
        "round": index,
        "parent": parent.key,
    }
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
            clock, end = (0, total) if clock == total else (clock, end)
            spec |= {"weights": weights, "clock": clock, "end": end}
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
        biases=study.prune.biases,
        spec=spec,
        prune=study.prune,
    )


def arm_spec(study: Sweep) -> dict[str, Any]:
    """All that determines an arm: not its seeds, nor how many rounds and controls it has."""
    return {"schema": SCHEMA, **_training(study), **_pruning(study)}


def _training(study: Sweep) -> dict[str, Any]:
    trainer = study.trainer
    return {
        "trainer": {**determinants(trainer, trainer.steps), "protocol": trainer.PROTOCOL},
        "eval": determinants(study.eval, trainer.steps),
    }


def _pruning(study: Sweep) -> dict[str, Any]:
    prune = determinants(study.prune, study.trainer.steps)
    del prune["rounds"]
    if study.prune.scope != "layerwise":
        prune.pop("output", None)
    # Two ways to write one rewind are one rewind, so its points enter as what they come to.
    weights, _, clock, end = _rewound(study)
    rewind = determinants(study.rewind, study.trainer.steps)
    del rewind["retrain"]
    return {"prune": prune, **rewind, "weights": weights, "clock": clock, "end": end}


def _rewound(study: Sweep) -> tuple[str, int | None, int, int]:
    """Where weights come from, their step of the trunk, and the clock's start and end."""
    total = study.trainer.total_steps
    step = _step(study.rewind.weights, study)
    weights = "final" if step is None else f"step:{step}" if step else "init"
    clock = _step(study.rewind.restart, study)
    if clock is not None:
        return weights, step, clock, total
    if study.rewind.retrain is None:
        raise ValueError("a round whose clock stays at final needs rewind.retrain.")
    return weights, step, total, total + study.trainer.steps(study.rewind.retrain)


def _step(point: str | Extent, study: Sweep) -> int | None:
    """The step of the trunk that a point means; None for its end."""
    if point == "final":
        return None
    return study.trainer.steps(point) if isinstance(point, Extent) else 0
