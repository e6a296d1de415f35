"""Nuisance inputs: what a network is shown besides its task, and that it should learn to ignore.

    [ the task's own inputs | noise | duplicates ]

A noise input is Gaussian: drawn anew at each observation of an agent, drawn once for each example
of a data set. A duplicate shows what one of the task's own inputs shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from raylottery.spec.fingerprint import Frozen
from raylottery.spec.problems import StrictModel


if TYPE_CHECKING:
    from raylottery.spec.trainer import Trainer


class Nuisance(StrictModel):
    """Inputs that tell nothing new, after those of the task."""

    noise: Annotated[int, Frozen(0)] = Field(0, ge=0, le=9999)
    """Inputs of Gaussian noise."""
    duplicates: Annotated[int, Frozen(0)] = Field(0, ge=0, le=9999)
    """Inputs that show the task's own once more, one after the other and over again."""
    scale: Annotated[float, Frozen(1.0)] = Field(1.0, gt=0)
    """Standard deviation of the noise; best about that of the task's own inputs."""

    @field_validator("scale")
    @classmethod
    def _of_noise(cls, scale: float, info: ValidationInfo) -> float:
        if scale != 1.0 and info.data.get("noise") == 0:
            raise ValueError("means nothing without noise; leave it out, or set noise.")
        return scale

    @property
    def inputs(self) -> int:
        """How many they are."""
        return self.noise + self.duplicates

    def sources(self, own: int) -> list[int]:
        """The own input that each duplicate shows, of so many."""
        return [place % own for place in range(self.duplicates)]


Kind = Literal["own", "noise", "duplicate"]


class Input(NamedTuple):
    """One input of a network."""

    index: int
    kind: Kind
    source: int | None
    """The own input that it shows: itself, or of a duplicate another one; None for noise."""
    name: str


NAMES = {
    "CartPole": ("position", "velocity", "angle", "angular velocity"),
    "Acrobot": ("cos 1", "sin 1", "cos 2", "sin 2", "angular velocity 1", "angular velocity 2"),
    "MountainCar": ("position", "velocity"),
    "LunarLander": ("x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg",
                    "right leg"),
}  # fmt: skip
"""What gymnasium's environments show, by their ids without the version."""


def input_kinds(trainer: Trainer, inputs: int) -> list[Input]:
    """What each of a network's inputs is, `inputs` being how many its first layer takes."""
    extra = trainer.nuisance
    own = inputs - extra.inputs
    if own < 1:
        raise ValueError(f"{inputs} inputs cannot end with {extra.inputs} of nuisance.")
    names = own_names(trainer, own)
    found: list[tuple[Kind, int | None, str]] = [
        *(("own", place, name) for place, name in enumerate(names)),
        *(("noise", None, f"noise {place}") for place in range(extra.noise)),
        *(("duplicate", source, name) for source, name in duplicates(extra, names)),
    ]
    return [Input(index, *told) for index, told in enumerate(found)]


def own_names(trainer: Trainer, own: int) -> tuple[str, ...]:
    """What the task's own inputs are called; by their numbers where nothing better is known."""
    known = NAMES.get(trainer.task.rpartition("-v")[0], ())
    return known if len(known) == own else tuple(f"input {place}" for place in range(own))


def duplicates(extra: Nuisance, names: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """The source of each duplicate, and its name: `angle again`, then `angle again 2`."""
    for place, source in enumerate(extra.sources(len(names))):
        times = place // len(names) + 1
        yield source, f"{names[source]} again{f' {times}' if times > 1 else ''}"
