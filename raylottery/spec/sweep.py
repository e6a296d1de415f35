"""The sweep file as a model. Each field's help stands under it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from raylottery.errors import did_you_mean
from raylottery.spec.axes import checked_axes
from raylottery.spec.controls import CONTROLS
from raylottery.spec.extent import Extent
from raylottery.spec.problems import Problem, Problems, StrictModel, shown
from raylottery.spec.sections import Eval, Prune, Resources, Rewind
from raylottery.spec.trainer import Trainer


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Sweep(StrictModel):
    """What to compare: a base, axes to vary, seeds."""

    name: str
    """Name of the sweep and of its folder in the store."""
    trainer: Trainer
    """What trains a round."""
    prune: Prune
    """What each round prunes."""
    rewind: Rewind = Rewind()
    """Where the surviving weights, and the schedule clock, go back to before a round."""
    eval: Eval = Field(Eval(), validate_default=True)
    """Measurements on the way."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(strict=False, min_length=1)
    """One lineage each in every arm, such as [0, 1, 2]."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Lists of values by field, such as `prune.scope: [global, layerwise]`; `zip:` pairs lists."""
    controls: tuple[str, ...] = Field((), strict=False)
    """Altered tickets to train beside each ticket."""
    resources: Resources = Resources()
    """What Ray sets aside for a trial."""
    retries: int = Field(3, ge=0)
    """How often a failed trial starts again, from its last finished round."""

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(
                f"{shown(name)} cannot name a folder. Use letters, digits, `.`, `_` and `-`, "
                f"beginning with a letter or digit, no `..`, at most 64 characters."
            )
        return name

    @field_validator("rewind", "eval")
    @classmethod
    def _within_training(cls, part: Rewind | Eval, info: ValidationInfo) -> Rewind | Eval:
        trainer = info.data.get("trainer")
        if trainer is not None:
            faults = [
                Problem((name,), text)
                for name in type(part).model_fields
                if isinstance(extent := getattr(part, name), Extent)
                and (text := _misfit(name, extent, trainer))
            ]
            if faults:
                raise Problems(faults)
        return part

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _once(seeds, "seed")

    @field_validator("axes", mode="before")
    @classmethod
    def _axes(cls, axes: Any) -> Any:
        return checked_axes(axes, cls)

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, controls: tuple[str, ...]) -> tuple[str, ...]:
        faults = [
            Problem((i,), f"no such control: {shown(name)}. {did_you_mean(name, CONTROLS)}")
            for i, name in enumerate(controls)
            if name not in CONTROLS
        ]
        if faults:
            raise Problems(faults)
        return _once(controls, "control")


def _once(values: tuple, noun: str) -> tuple:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise Problems([Problem((i,), f"the {noun} {value} is listed twice; take one out.")])
    return values


def _misfit(name: str, extent: Extent, trainer: Trainer) -> str | None:
    """Why a length cannot be meant in a training, or None."""
    total = trainer.total_steps
    training = f"the training ({trainer.length}, {total} updates)"
    try:
        steps = trainer.steps(extent)
    except ValueError as error:
        return str(error)
    if name in ("weights", "clock"):
        if steps >= total:
            return f"{extent} is not before the end of {training}; for its end say final."
    elif steps < 1:
        return f"{extent} of {training} comes to no update at all; say at least 1it."
    elif name == "every" and steps > total:
        return f"{extent} is longer than {training}; say at most 100%."
    return None
