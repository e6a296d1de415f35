"""The `trainer:` section of a sweep that trains classifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from raylottery.errors import did_you_mean
from raylottery.spec.datasets import DATASETS, DataSize
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen, determinants
from raylottery.spec.kernel import KERNEL_PROTOCOL
from raylottery.spec.nuisance import Nuisance
from raylottery.spec.problems import Key, Problem, Problems, StrictModel, changed, shown


MODELS = (
    "lenet-300-100", "conv-2", "conv-4", "conv-6", "resnet-20", "resnet-56", "resnet-18",
    "resnet-50", "vgg-16", "vgg-19",
)  # fmt: skip
"""The networks of the lottery-ticket papers, besides mlp-..., cnn-... and other packages'."""

BY_WIDTH = ("mlp-300-100", "residual-mlp-100-100", "cnn-32-64-128")

UNCOMPILED = {
    "augment": "trains on the images as they are",
    "precision": "computes in float32 alone",
    "channels_last": "has no images in memory",
    "compile": "is compiled as it is",
    "threads": "trains each lineage in one thread",
}
"""Fields that the compiled engine does not vary, and why."""

_MLP = re.compile(r"(residual-)?mlp((?:-[1-9][0-9]{0,4})+)")
_CNN = re.compile(r"cnn((?:-[1-9][0-9]{0,3})+)")
_ELSEWHERE = re.compile(r"torchvision:[a-z0-9_]+|[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def parse_mlp(model: str) -> tuple[bool, tuple[int, ...]] | None:
    """Whether an mlp is residual, and its hidden widths; None for any other network."""
    match = _MLP.fullmatch(model)
    if match is None:
        return None
    hidden = tuple(int(width) for width in match[2].split("-")[1:])
    if match[1] and (len(hidden) < 2 or len(set(hidden)) > 1):
        raise ValueError(
            f"{shown(model)} cannot add its layers: a residual-mlp has at least two hidden "
            f"layers, all of one width, such as residual-mlp-100-100."
        )
    return bool(match[1]), hidden


def parse_cnn(model: str) -> tuple[int, ...] | None:
    """The channels of each of a cnn's convolutions; None for any other network."""
    match = _CNN.fullmatch(model)
    return None if match is None else tuple(int(wide) for wide in match[1].split("-")[1:])


class ClassifierTrainer(StrictModel):
    """A classifier on a data set that fits in memory."""

    PROTOCOL: ClassVar[int] = 1
    """Raised whenever the same fields would train differently than before."""
    UNITS: ClassVar[tuple[str, ...]] = ("it", "ep")

    kind: Literal["classifier"]
    """What is trained."""
    engine: Annotated[Literal["torch", "compiled"], Frozen("torch")] = "torch"
    """What runs the training: torch, or compiled code for an mlp on a CPU, whose cost falls with
    density."""
    dataset: str = Field(json_schema_extra={"enum": [*DATASETS]})
    """Data set to classify, such as mnist1d."""
    examples: Annotated[int | None, Frozen(None)] = Field(None, ge=100)
    """Training examples of generated data (cifar-like), 5000 unless set; a tenth validate. As many
    are tested, but at most 1000."""
    model: str
    """Network: mlp-300-100 (its hidden widths), residual-mlp-100-100, cnn-32-64-128 (its
    channels), lenet-300-100, conv-2, conv-4, conv-6, resnet-20, resnet-56, resnet-18, resnet-50,
    vgg-16, vgg-19, torchvision:NAME, or one of your own as package.module:function."""
    initialisation: Annotated[Literal["torch", "glorot", "kaiming"], Frozen("torch")] = "torch"
    """How weights begin: by torch's or the network's own rules, or normal as Glorot's or He's."""
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
    nesterov: Annotated[bool, Frozen(False)] = False
    """Whether the momentum of sgd looks ahead."""
    weight_decay: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0)
    """Weight decay, as the optimizer has it."""
    decay_all: Annotated[bool, Frozen(True)] = True
    """Whether norms and biases decay with the weights."""
    schedule: Annotated[
        Literal["constant", "drops", "cosine", "triangular"], Frozen("constant")
    ] = "constant"
    """How the learning rate goes on after the warmup: constant, with drops, as a half cosine to 0,
    or up to its height at the middle of the training and down to 0."""
    drops: Annotated[tuple[Extent, ...], Frozen(())] = Field((), strict=False)
    """drops: where the learning rate falls, such as [80ep, 120ep]."""
    drop_factor: Annotated[float, Frozen(0.1)] = Field(0.1, gt=0, lt=1)
    """drops: what it is multiplied by there."""
    warmup: Annotated[Extent, Frozen(Extent.parse("0it"))] = Extent.parse("0it")
    """Stretch over which the learning rate first climbs from 0, linearly."""
    label_smoothing: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0, lt=1)
    """Share of each label that is spread over all classes."""
    normalise: Annotated[Literal["dataset", "unit", "none"], Frozen("dataset")] = "dataset"
    """Pixels: to mean 0 and spread 1 of each channel of the data set, from 0 to 1, or from 0 to
    255. Data that are no pixels stay as published."""
    augment: Annotated[Literal["none", "flip-crop", "flip-crop-cutout"], Frozen("none")] = "none"
    """What is done to training images: mirrored and shifted by up to 4 pixels, a hole cut in."""
    nuisance: Annotated[Nuisance, Frozen(Nuisance())] = Nuisance()
    """Inputs that tell nothing new, added to those of data that are no images."""
    shuffle: Annotated[Literal["none", "pixels", "labels"], Frozen("none")] = "none"
    """Whether the data are shuffled: the places of their inputs, in one order for all examples, or
    the labels of the training examples."""
    shuffle_seed: Annotated[int, Frozen(0)] = Field(0, ge=0, lt=2**63)
    """What they are shuffled by."""
    precision: Annotated[Literal["float32", "tf32", "bf16"], Frozen("float32")] = "float32"
    """Arithmetic of products: float32, tf32 (GPUs), or bf16 where torch holds it safe."""
    channels_last: Annotated[bool, Frozen(True)] = True
    """Whether images lie in memory pixel by pixel, which is faster."""
    compile: Annotated[bool, Frozen(False)] = False
    """Whether torch.compile is used, once a lineage; on a CPU it rarely pays."""
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
        if model in MODELS or _ELSEWHERE.fullmatch(model) or parse_mlp(model) or parse_cnn(model):
            return model
        raise ValueError(
            f"no such model: {shown(model)}. {did_you_mean(model, (*MODELS, *BY_WIDTH))} An mlp "
            f"or cnn is named by its widths, such as {', '.join(BY_WIDTH)}; others as "
            f"torchvision:NAME or package.module:function."
        )

    @field_validator("length")
    @classmethod
    def _known_unit(cls, length: Extent) -> Extent:
        if length.unit not in cls.UNITS:
            length.steps(dict.fromkeys(cls.UNITS, Fraction(1)), None)
        if length.amount == 0:
            raise ValueError(f"a training of {length} trains nothing; say how long, such as 15ep.")
        return length

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
        faults = list(self._faults())
        if faults:
            raise Problems(faults)
        return self

    def _faults(self) -> Iterator[Problem]:
        if self.examples is not None and self.dataset != "cifar-like":
            text = f"{self.dataset} has the size it has; leave it out, or say dataset: cifar-like."
            yield Problem(("examples",), text)
        if self.batch_size > self.size.train:
            yield Problem(
                ("batch_size",),
                f"a batch of {self.batch_size} is more than the {self.size.train} training "
                f"examples of {self.dataset}; say at most that.",
            )
            return
        if self.total_steps < 1:
            text = f"{self.length} comes to no update at all; say at least 1it."
            yield Problem(("length",), text)
            return
        shape = self.packed_size.shape
        images = len(shape) == 3
        if not images:
            for name in ("augment", "normalise"):
                if name in changed(self):
                    text = f"is for images, and {self.dataset} has none; leave it out."
                    yield Problem((name,), text)
        elif self.nuisance.inputs:
            text = f"is for data without images, and {self.dataset} has some; leave it out, "
            yield Problem(("nuisance",), f"{text}or say dataset: mnist1d.")
        papers = self.model in MODELS and self.model != "lenet-300-100"
        if not images and (papers or parse_cnn(self.model)):
            text = f"{self.model} looks at images, and {self.dataset} has none; say an mlp-..."
            yield Problem(("model",), text)
        channels = parse_cnn(self.model)
        if images and channels:
            most = min(shape[1:]).bit_length() - 1
            if len(channels) > most:
                text = f"{self.model} halves its images {len(channels)} times, and those of "
                text += f"{self.dataset} are gone after {most}; say at most {most} widths."
                yield Problem(("model",), text)
        if self.engine == "compiled":
            yield from self._uncompiled()
        if self.shuffle_seed and self.shuffle == "none":
            yield Problem(("shuffle_seed",), "means nothing without shuffle; leave it out.")
        if self.nesterov and not self.momentum:
            yield Problem(("nesterov",), "looks ahead along the momentum; set momentum too.")
        if (self.schedule == "drops") != bool(self.drops):
            text = "go together: schedule: drops, and drops: [80ep, 120ep] or the like."
            yield Problem(("drops",), text)
        if self.schedule != "drops" and "drop_factor" in changed(self):
            yield Problem(("drop_factor",), "goes with schedule: drops; leave it out.")
        places = {("drops", index): extent for index, extent in enumerate(self.drops)}
        outside = list(self._outside(places | {("warmup",): self.warmup}))
        yield from outside
        points = [self.steps(extent) for extent in self.drops if not outside]
        if sorted(set(points)) != points:
            yield Problem(("drops",), "come one after the other; sort them, each once.")

    def _uncompiled(self) -> Iterator[Problem]:
        """What the compiled engine cannot do."""
        if self.model != "lenet-300-100" and parse_mlp(self.model) is None:
            text = "the compiled engine trains dense layers only; say an mlp-..., or say "
            yield Problem(("model",), text + "engine: torch.")
        for name in changed(self):
            if why := UNCOMPILED.get(name):
                text = f"the compiled engine {why}; leave it out, or say engine: torch."
                yield Problem((name,), text)

    def _outside(self, places: Mapping[Key, Extent]) -> Iterator[Problem]:
        """Points that do not lie within the training, and why."""
        for key, extent in places.items():
            try:
                inside = self.steps(extent) < self.total_steps
            except ValueError as error:
                yield Problem(key, str(error))
                continue
            if not inside:
                yield Problem(
                    key,
                    f"{extent} is not before the end of the training ({self.length}, "
                    f"{self.total_steps} updates); say less.",
                )

    @property
    def size(self) -> DataSize:
        """Of the data as a network is shown them."""
        size = self.packed_size
        if not self.nuisance.inputs:
            return size
        return replace(size, shape=(size.inputs + self.nuisance.inputs,))

    @property
    def packed_size(self) -> DataSize:
        """Of the data set as it is kept on disk."""
        size = DATASETS[self.dataset]
        if self.examples is None:
            return size
        valid = self.examples // 10
        test = min(size.test, self.examples)  # a tiny one is there to be quick
        return replace(size, train=self.examples - valid, valid=valid, test=test)

    @property
    def units(self) -> Mapping[str, Fraction]:
        """Updates per unit of length."""
        epoch = self.size.train // self.batch_size
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
        kernel = {"kernel": KERNEL_PROTOCOL} if self.engine == "compiled" else {}
        return {**determinants(self, self.steps), **kernel}

    @property
    def side_by_side(self) -> bool:
        """Whether one process may train several lineages at a time, each on a thread."""
        return self.engine == "compiled"

    @property
    def metric(self) -> str:
        """What a score counts."""
        return "accuracy"

    @property
    def task(self) -> str:
        """What is learnt."""
        return self.dataset
