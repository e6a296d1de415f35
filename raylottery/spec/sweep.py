"""The sweep file as models. Each field's help stands under it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator

from raylottery.errors import did_you_mean
from raylottery.spec.axes import checked_axes
from raylottery.spec.controls import CONTROLS
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen
from raylottery.spec.problems import Problem, Problems, StrictModel, shown
from raylottery.spec.trainer import Trainer


MAX_ROUNDS = 1000


def _point(value: Any) -> str | Extent:
    if isinstance(value, Extent) or value in ("init", "final"):
        return value
    if isinstance(value, str) and value[:1].isdigit():
        return Extent.parse(value)
    raise ValueError(f"{shown(value)} is no point to rewind to: init, final, or an extent as 1ep.")


Point = Annotated[
    Literal["init", "final"] | Extent,
    PlainValidator(_point, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]


class Prune(StrictModel):
    """What each round prunes."""

    score: Literal["magnitude", "random"] = "magnitude"
    """What ranks the weights; the lowest go."""
    scope: Literal["global", "layerwise", "erk"] = "global"
    """Among which weights they are ranked: all, those of each layer, or by ERK densities."""
    fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the surviving weights that a round prunes, such as 0.2."""
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    """Pruned rounds after the dense one."""
    output: Annotated[Literal["half", "full"], Frozen("half")] = "half"
    """Rate of the output layer under scope layerwise."""
    biases: Annotated[bool, Frozen(False)] = False
    """Whether biases are pruned too."""


class Rewind(StrictModel):
    """Where the surviving weights, and the schedule clock, go back to before a round."""

    weights: Point = "init"
    """The weights: init, an extent such as 500it, 1ep or 5%, or final (they stay)."""
    clock: Point | None = None
    """The clock: the same choices; it follows the weights unless set."""
    retrain: Extent | None = Field(None, validate_default=True)
    """Length of a round whose clock stays at final, such as 5ep."""

    @field_validator("retrain")
    @classmethod
    def _with_final_clock(cls, retrain: Extent | None, info: ValidationInfo) -> Extent | None:
        if not {"weights", "clock"} <= info.data.keys():
            return retrain
        clock = info.data["clock"] or info.data["weights"]
        if clock == "final" and retrain is None:
            raise ValueError(
                "missing: with the clock at final nothing is left to train. Say how long to "
                "fine-tune, such as 5ep, or set clock: init."
            )
        if clock != "final" and retrain is not None:
            raise ValueError(
                f"a round whose clock goes back to {clock} trains from there to the end. "
                f"Leave retrain out, or set clock: final."
            )
        return retrain

    @property
    def restart(self) -> str | Extent:
        """Where the clock goes back to."""
        return self.clock or self.weights


class Eval(StrictModel):
    """Measurements on the way."""

    every: Extent = Extent.parse("5%")
    """Distance between two measurements, such as 5% or 1ep."""


class Resources(StrictModel):
    """What Ray sets aside for a trial."""

    cpus: float = Field(1.0, gt=0)
    """CPU cores."""
    gpus: float = Field(0.0, ge=0)
    """GPUs; below 1, trials share one."""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"above 1, GPUs come in whole numbers, not {gpus:g}; say {int(gpus)} or {int(gpus) + 1}."
            )
        return gpus


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
    axes: dict[str, Any] = {}
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
                f"{shown(name)} cannot name a folder: letters, digits, `.`, `_` and `-`, beginning "
                f"with a letter or digit, no `..`, at most 64 characters."
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
    try:
        steps = trainer.steps(extent)
    except ValueError as error:
        return str(error)
    if name in ("weights", "clock"):
        if steps >= total:
            return f"{extent} is not before the end of the training ({trainer.length}, {total} updates). For the end itself say final."
        return None
    if steps < 1:
        return f"{extent} of {trainer.length} comes to no update at all; say at least 1it."
    if name == "every" and steps > total:
        return f"{extent} is longer than the training ({trainer.length}, {total} updates); say at most 100%."
    return None
