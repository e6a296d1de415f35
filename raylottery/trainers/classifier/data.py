"""Data sets as tensors that stay in memory, on the device that trains on them.

On the CPU they are the packed files themselves, which all processes of a machine share; on a GPU,
one copy of them. Images are kept as the bytes they are: `augmented` and `prepared` make of a
batch, on its device, what a network takes.
"""

from __future__ import annotations

import functools
import platform
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from raylottery.spec import ClassifierTrainer, DataSize, derive_seed
from raylottery.spec.nuisance import Nuisance
from raylottery.trainers.classifier import cifarlike, packed
from raylottery.trainers.classifier.packed import Whole


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one part of a data set: images as bytes, other inputs as numbers."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split three ways."""

    train: Split
    valid: Split
    test: Split
    mean: Tensor
    """Of each channel of the training images, black being 0 and white 1; of no images, empty."""
    std: Tensor
    order: Tensor | None
    """Of places that are shuffled, the one that is shown at each."""

    def arranged(self, x: Tensor) -> Tensor:
        """Examples as they are kept, every input in its place; of an image, all channels alike."""
        if self.order is None:
            return x
        return x.flatten(max(1, x.ndim - 2))[..., self.order].view_as(x)

    @functools.cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and spread as bytes count, in a shape that goes with a batch."""
        return 255 * self.mean[:, None, None], 255 * self.std[:, None, None]


def load(spec: ClassifierTrainer, device: str) -> Dataset:
    """The data of a study, on `device`; kept for the next round and the next lineage."""
    at = packed.place(spec.dataset, spec.packed_size)
    dataset = on_device(spec.dataset, spec.packed_size, at, spec.nuisance, device)
    if spec.shuffle == "none":
        return dataset
    return shuffled(dataset, spec.shuffle, spec.shuffle_seed)


@functools.lru_cache(maxsize=4)
def on_device(name: str, size: DataSize, at: Path, extra: Nuisance, device: str) -> Dataset:
    provide(name, size)
    pack = packed.opened(name, size)
    tensors = {file: torch.from_numpy(a) for file, a in pack.arrays.items()}
    splits = {
        split: Split(
            widened(tensors[f"{split}-x.npy"], extra, split).to(device),
            tensors[f"{split}-y.npy"].to(device),
        )
        for split in packed.SPLITS
    }
    mean, std = torch.tensor(pack.mean, device=device), torch.tensor(pack.std, device=device)
    return Dataset(**splits, mean=mean, std=std, order=None)


def widened(x: Tensor, extra: Nuisance, split: str) -> Tensor:
    """Examples with nuisance inputs behind their own.

    The noise belongs to the data set, as its splits do: all lineages and rounds see the same.
    """
    if not extra.inputs:
        return x
    noise = torch.empty(len(x), extra.noise)
    for place in range(extra.noise):
        generator = torch.Generator().manual_seed(derive_seed("nuisance", split, place))
        noise[:, place].normal_(0, extra.scale, generator=generator)
    own = x.flatten(1)
    return torch.cat([own, noise, own[:, extra.sources(own.shape[1])]], dim=1)


def shuffled(dataset: Dataset, what: str, seed: int) -> Dataset:
    """A data set whose inputs stand in other places, in all its parts; or whose training labels
    belong to other examples, so that nothing can be learnt but by heart."""
    generator = torch.Generator().manual_seed(seed)
    x, y = dataset.train.x, dataset.train.y
    if what == "labels":
        order = torch.randperm(len(y), generator=generator)
        return replace(dataset, train=Split(x, y[order.to(y.device)]))
    places = x[0].flatten(max(0, x[0].ndim - 2)).shape[-1]
    return replace(dataset, order=torch.randperm(places, generator=generator).to(x.device))


def provide(name: str, size: DataSize) -> None:
    """See that a data set is packed on this machine: what is generated is made once."""
    packed.refuse_missing(name, size, platform.node())
    at = packed.place(name, size)
    if not packed.is_here(at):
        with packed.locked(at):
            if not packed.is_here(at):
                packed.write(name, size, GENERATORS[name](size))


def mnist1d(size: DataSize) -> Whole:
    """MNIST-1D with its published settings, generated: nothing is downloaded."""
    from mnist1d.data import get_dataset_args, make_dataset

    states = np.random.get_state(), random.getstate()  # the generator seeds the global streams
    try:
        data = make_dataset(get_dataset_args())
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    return Whole(
        x=np.asarray(data["x"], np.float32),
        y=np.asarray(data["y"], np.int64),
        x_test=np.asarray(data["x_test"], np.float32),
        y_test=np.asarray(data["y_test"], np.int64),
    )


def cifar_like(size: DataSize) -> Whole:
    """Generated images; the test set is the same in every size."""
    return Whole(
        *cifarlike.generate(size.train + size.valid, seed=0),
        *cifarlike.generate(size.test, seed=1),
    )


GENERATORS = {"mnist1d": mnist1d, "cifar-like": cifar_like}


# From bytes to what a network takes


def prepared(x: Tensor, spec: ClassifierTrainer, dataset: Dataset) -> Tensor:
    """A batch as floats on the scale that `normalise` names; what is no image stays as it is."""
    x = dataset.arranged(x)
    if x.dtype != torch.uint8:
        return x
    x = x.float()
    if spec.channels_last:  # two steps, for the one that does both is half as fast on a CPU
        x = x.contiguous(memory_format=torch.channels_last)
    return normalised(x, spec.normalise, dataset)


def normalised(x: Tensor, scale: str, dataset: Dataset) -> Tensor:
    """Pixels as floats, on the scale that `normalise` names: written over."""
    if scale == "dataset":
        mean, std = dataset.moments
        return x.sub_(mean).div_(std)
    return x.div_(255) if scale == "unit" else x


PADDING = 4


def augmented(x: Tensor, spec: ClassifierTrainer, generator: torch.Generator) -> Tensor:
    """A batch of images with every one mirrored at random, shifted by up to four pixels and, where
    asked, blackened in a square of half its side around any of its pixels.

    All of it is one gather from the batch with a black margin around every image: a corner of that
    margin stands for whatever is cut out.
    """
    if spec.augment == "none":
        return x
    count, channels, height, width = x.shape

    def draws(end: int) -> Tensor:
        drawn = torch.randint(end, (count, 1), generator=generator, device=generator.device)
        return drawn.to(x.device, non_blocking=True)

    rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
    mirrored = torch.where(draws(2) == 1, columns.flip(0), columns)
    from_row = rows + draws(2 * PADDING + 1)
    from_column = mirrored + draws(2 * PADDING + 1)
    source = from_row[:, :, None] * (width + 2 * PADDING) + from_column[:, None, :]
    if spec.augment == "flip-crop-cutout":
        cut = (
            inside(rows, draws(height), height)[:, :, None]
            & inside(columns, draws(width), width)[:, None, :]
        )
        source = source.masked_fill(cut, 0)
    padded = functional.pad(x, 4 * (PADDING,)).flatten(2)
    everywhere = source.flatten(1)[:, None].expand(count, channels, height * width)
    return padded.gather(2, everywhere).view_as(x)


def inside(places: Tensor, centre: Tensor, side: int) -> Tensor:
    """Which places lie in a hole of half the side around each centre."""
    begin = centre - side // 4
    return (places >= begin) & (places < begin + side // 2)
