"""Data sets as tensors that stay in memory, on the device that trains on them.

Splits are fixed for everyone: the last examples of a permutation that belongs to the data set,
not to the seed of a lineage, are held out for validation. The test set is the publisher's own.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raylottery.spec.classifier import DATASETS


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one part of a data set."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A data set, split three ways."""

    train: Split
    valid: Split
    test: Split


@functools.lru_cache(maxsize=4)
def load(name: str, device: str) -> Dataset:
    """The data set called `name`, on `device`; kept for the next round and the next lineage."""
    size = DATASETS[name]
    x, y, x_test, y_test = READERS[name]()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, valid = order[: size.train], order[size.train :]
    found = (len(train), len(valid), len(y_test))
    assert found == (size.train, size.valid, size.test), f"{name} has sizes {found}, not {size}"
    return Dataset(
        train=Split(x[train].to(device), y[train].to(device)),
        valid=Split(x[valid].to(device), y[valid].to(device)),
        test=Split(x_test.to(device), y_test.to(device)),
    )


def read_mnist1d() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """MNIST-1D with its published settings, generated: nothing is downloaded."""
    from mnist1d.data import get_dataset_args, make_dataset

    states = np.random.get_state(), random.getstate()  # the generator seeds the global streams
    try:
        data = make_dataset(get_dataset_args())
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    return (
        torch.tensor(data["x"], dtype=torch.float32),
        torch.tensor(data["y"], dtype=torch.int64),
        torch.tensor(data["x_test"], dtype=torch.float32),
        torch.tensor(data["y_test"], dtype=torch.int64),
    )


READERS = {"mnist1d": read_mnist1d}
