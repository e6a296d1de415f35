"""Trainers whose network can be narrowed: dense layers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raylottery.spec.classifier import parse_mlp
from raylottery.spec.trainer import Trainer


def hidden_widths(trainer: Trainer) -> tuple[int, ...] | None:
    """The widths of the hidden layers, where there are no other layers than dense ones."""
    if trainer.kind == "dqn":
        return trainer.widths if trainer.model == "mlp" else None
    if trainer.model == "lenet-300-100":
        return 300, 100
    found = parse_mlp(trainer.model)
    return None if found is None else found[1]


def of_widths(trainer: Trainer, widths: Sequence[int]) -> Trainer:
    """The same trainer, its hidden layers of other widths."""
    update: dict[str, Any] = {"hidden": tuple(widths)}
    if trainer.kind == "classifier":
        residual = trainer.model.startswith("residual-")
        update = {"model": "-".join(map(str, ("residual-mlp" if residual else "mlp", *widths)))}
    return trainer.model_copy(update=update)
