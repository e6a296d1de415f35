"""The data sets that classifiers are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, kw_only=True)
class DataSize:
    """Examples in each part of a data set, and the shape of what a network takes and gives."""

    train: int
    valid: int
    test: int
    shape: tuple[int, ...]
    """Of one example: (inputs,), or (channels, height, width)."""
    classes: int

    @property
    def inputs(self) -> int:
        """Numbers in one example."""
        return prod(self.shape)


DATASETS = {
    "mnist1d": DataSize(train=3500, valid=500, test=1000, shape=(40,), classes=10),
    "cifar10": DataSize(train=45000, valid=5000, test=10000, shape=(3, 32, 32), classes=10),
    "cifar100": DataSize(train=45000, valid=5000, test=10000, shape=(3, 32, 32), classes=100),
    "mnist": DataSize(train=55000, valid=5000, test=10000, shape=(1, 28, 28), classes=10),
    "fashion-mnist": DataSize(train=55000, valid=5000, test=10000, shape=(1, 28, 28), classes=10),
    "cifar-like": DataSize(train=4500, valid=500, test=1000, shape=(3, 32, 32), classes=10),
}
"""The data sets; cifar-like is generated, in the size that `examples` says."""
