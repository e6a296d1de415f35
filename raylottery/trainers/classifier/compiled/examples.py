"""A data set as compiled code reads it: floats, example by example, once for all in a process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from raylottery.kernel.packing import aligned, up
from raylottery.spec import ClassifierTrainer
from raylottery.trainers.classifier import data, packed


CHUNK = 1000
"""Examples that are made at a time."""


class Part(NamedTuple):
    """One part of a data set."""

    x: np.ndarray
    """The numbers of all examples, those of each filled up with zeros to `width`."""
    y: np.ndarray
    """Labels."""
    width: int


_MAKING = threading.Lock()


def examples(spec: ClassifierTrainer) -> Mapping[str, Part]:
    """The parts of a study's data; kept for the next round and for other lineages."""
    dataset = data.load(spec, "cpu")
    if spec.shuffle != "none":  # nobody else will ask for these
        return made(dataset, spec.normalise)
    with _MAKING:  # or lineages that begin together would each make them
        return kept(dataset, spec.normalise)


def made(dataset: data.Dataset, scale: str) -> Mapping[str, Part]:
    return {split: part(getattr(dataset, split), scale, dataset) for split in packed.SPLITS}


kept = functools.lru_cache(maxsize=2)(made)


def part(split: data.Split, scale: str, dataset: data.Dataset) -> Part:
    inputs = split.x[0].numel()
    x = aligned(len(split) * up(inputs)).reshape(len(split), up(inputs))
    for begin in range(0, len(split), CHUNK):
        chunk = dataset.arranged(split.x[begin : begin + CHUNK])
        if chunk.dtype == torch.uint8:
            chunk = data.normalised(chunk.float(), scale, dataset)
        x[begin : begin + CHUNK, :inputs] = chunk.flatten(1)
    return Part(x.ravel(), split.y.numpy(), up(inputs))
