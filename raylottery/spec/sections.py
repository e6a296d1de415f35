"""The smaller sections of a sweep file. Each field's help stands under it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator

from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen
from raylottery.spec.problems import StrictModel, shown


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
                f"above 1, GPUs come in whole numbers, not {gpus:g}; "
                f"say {int(gpus)} or {int(gpus) + 1}."
            )
        return gpus
