"""The `trainer:` section of a sweep that trains classifiers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from raylottery.errors import did_you_mean
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen, determinants
from raylottery.spec.problems import Problem, Problems, StrictModel, shown


@dataclass(frozen=True, kw_only=True)
class DataSize:
    """Examples in each part of a data set, and the size of what a network takes and gives."""

    train: int
    valid: int
    test: int
    inputs: int
    classes: int


DATASETS = {"mnist1d": DataSize(train=3500, valid=500, test=1000, inputs=40, classes=10)}


_MODEL = re.compile(r"(residual-)?mlp((?:-[1-9][0-9]{0,4})+)")


def parse_model(model: str) -> tuple[bool, tuple[int, ...]]:
    """Whether `model` is residual, and its hidden widths; ValueError says what was expected."""
    match = _MODEL.fullmatch(model)
    if match is None:
        raise ValueError(
            f"no such model: {shown(model)}. Expected mlp-WIDTH-WIDTH-... such as mlp-300-100, "
            f"or residual-mlp-WIDTH-WIDTH-... such as residual-mlp-100-100."
        )
    hidden = tuple(int(width) for width in match[2].split("-")[1:])
    if match[1] and (len(hidden) < 2 or len(set(hidden)) > 1):
        raise ValueError(
            f"{shown(model)} cannot add its layers: a residual-mlp has at least two hidden "
            f"layers, all of one width, such as residual-mlp-100-100."
        )
    return bool(match[1]), hidden


class ClassifierTrainer(StrictModel):
    """A torch classifier on a data set that fits in memory."""

    PROTOCOL: ClassVar[int] = 1
    """Raised whenever the same fields would train differently than before."""
    UNITS: ClassVar[tuple[str, ...]] = ("it", "ep")

    kind: Literal["classifier"]
    """What is trained."""
    dataset: str
    """Data set to classify, such as mnist1d."""
    model: str
    """Network: mlp-300-100 (its hidden widths), or residual-mlp-100-100."""
    length: Extent
    """Training of a round from start to end, in updates or epochs, such as 15ep."""
    batch_size: int = Field(ge=1)
    """Examples per update; what is left of an epoch is dropped."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    """Rule of the updates."""
    lr: float = Field(gt=0)
    """Learning rate."""
    momentum: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0, lt=1)
    """Momentum of sgd."""
    weight_decay: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0)
    """Weight decay, as the optimizer has it."""
    threads: Annotated[int, Frozen(1)] = Field(1, ge=1)
    """Torch's CPU threads; they change the last bits of a result, so they count."""

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: str) -> str:
        if dataset not in DATASETS:
            raise ValueError(
                f"no such data set: {shown(dataset)}. {did_you_mean(dataset, DATASETS)}"
            )
        return dataset

    @field_validator("model")
    @classmethod
    def _known_model(cls, model: str) -> str:
        parse_model(model)
        return model

    @field_validator("length")
    @classmethod
    def _known_unit(cls, length: Extent) -> Extent:
        if length.unit not in cls.UNITS:
            length.steps(dict.fromkeys(cls.UNITS, Fraction(1)), None)
        if length.amount == 0:
            raise ValueError(f"a training of {length} trains nothing; say how long, such as 15ep.")
        return length

    @field_validator("batch_size")
    @classmethod
    def _fits_dataset(cls, batch_size: int, info: ValidationInfo) -> int:
        size = DATASETS.get(info.data.get("dataset", ""))
        if size and batch_size > size.train:
            raise ValueError(
                f"a batch of {batch_size} is more than the {size.train} training examples of "
                f"{info.data['dataset']}."
            )
        return batch_size

    @field_validator("momentum")
    @classmethod
    def _sgd_only(cls, momentum: float, info: ValidationInfo) -> float:
        optimizer = info.data.get("optimizer", "sgd")
        if momentum and optimizer != "sgd":
            raise ValueError(
                f"{optimizer} has no momentum of its own to set; leave it out, or take "
                f"optimizer: sgd."
            )
        return momentum

    @model_validator(mode="after")
    def _trains(self) -> ClassifierTrainer:
        if self.total_steps < 1:
            text = f"{self.length} comes to no update at all; say at least 1it."
            raise Problems([Problem(("length",), text)])
        return self

    @property
    def units(self) -> Mapping[str, Fraction]:
        """Updates per unit of length."""
        epoch = DATASETS[self.dataset].train // self.batch_size
        return {"it": Fraction(1), "ep": Fraction(epoch)}

    @property
    def total_steps(self) -> int:
        """Updates of a whole training."""
        return self.length.steps(self.units, None)

    def steps(self, extent: Extent) -> int:
        """A stretch of the training as updates, % being of the whole."""
        return extent.steps(self.units, self.total_steps)

    def at(self, extent: Extent) -> int:
        """A point of the training as the updates before it."""
        return self.steps(extent)

    def determined(self) -> dict[str, Any]:
        """The fields that say something, extents as updates."""
        return determinants(self, self.steps)

    engine: ClassVar[str] = "torch"
    """What runs the training."""

    @property
    def metric(self) -> str:
        """What a score counts."""
        return "accuracy"

    @property
    def task(self) -> str:
        """What is learnt."""
        return self.dataset
