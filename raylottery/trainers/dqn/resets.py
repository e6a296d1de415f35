"""What a round begins with, as its ticket, its clock and the sweep's `reset` section say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import DQNTrainer, Reset
from raylottery.trainers.base import Start, Weights


NORMALISER = ("obs_mean", "obs_var", "obs_count")


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What learns: networks, and an optimizer."""

    weights: Weights
    target: Weights
    masks: Masks
    masks_target: bool
    """Whether the target network starts, and so stays, masked."""
    step: int
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the optimizer, where they are kept: `exp_avg.body.0.weight` and so on."""


@dataclass(frozen=True, kw_only=True)
class Experience:
    """What it learns from."""

    env_seed: int
    exploration_seed: int
    kept: Weights
    """Transitions of the round before, by the names of their parts."""
    warm_up: float | None
    """The share of random actions before the first update; None where that comes at once."""
    explorer: Weights | None
    """Whose the other actions are; None where all are random."""


def beginning(spec: DQNTrainer, reset: Reset, start: Start, fresh: Weights) -> Beginning:
    """`fresh` are the statistics of a network that has seen nothing."""
    ticket, previous = start.ticket, start.previous
    statistics = normaliser(spec, reset, start, fresh)
    target = ticket.unmasked
    if reset.target == "previous" and previous is not None:
        target = previous.weights
    if reset.target_mask == "same":
        target = apply_mask(target, ticket.masks)
    moments: Weights = {}
    if reset.optimizer == "kept" and previous is not None:
        moments = section(previous.carried, "optimizer")
    return Beginning(
        weights={**ticket.weights, **statistics},
        target={**target, **statistics},
        masks=ticket.masks,
        masks_target=reset.target_mask == "same",
        step=start.clock,
        moments=moments,
    )


def normaliser(spec: DQNTrainer, reset: Reset, start: Start, fresh: Weights) -> Weights:
    """The statistics of observations that a round begins with."""
    if not spec.normalise:
        return {}
    source = fresh
    if reset.normaliser == "rewound":
        source = start.ticket.weights
    elif reset.normaliser == "kept" and start.previous is not None:
        source = start.previous.weights
    return {name: source[name] for name in NORMALISER}


def experience(spec: DQNTrainer, reset: Reset, start: Start) -> Experience:
    previous = start.previous
    kept: Weights = {}
    if reset.replay == "kept" and previous is not None:
        kept = section(previous.carried, "replay")
    warm_up, explorer = 1.0, None
    if previous is not None and reset.learning_starts == "skipped":
        warm_up = None
    elif previous is not None and reset.replay == "prefilled":
        warm_up, explorer = spec.epsilon_end, previous.weights
    return Experience(
        env_seed=start.trunk_seed if reset.env_seed == "same" else start.data_seed,
        exploration_seed=(
            start.trunk_seed if reset.exploration_seed == "same" else start.data_seed
        ),
        kept=kept,
        warm_up=warm_up,
        explorer=explorer,
    )


def section(carried: Weights, name: str) -> Weights:
    """The part of what was carried whose names begin so."""
    start = f"{name}."
    return {k.removeprefix(start): t for k, t in carried.items() if k.startswith(start)}
