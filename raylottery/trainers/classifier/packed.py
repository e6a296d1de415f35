"""Data sets on disk: a folder each, with two plain .npy files a split, the inputs and the labels,
which all trainings on a machine map into memory and share.

A folder is there whole or not at all: it is written under a hidden name, flushed and renamed.
Whoever is about to write one holds its lock, which ends with the process that holds it; a hidden
folder that is found under the lock was left by a process that was killed, and is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raylottery.errors import UsageError
from raylottery.spec import DATASETS, DataSize
from raylottery.trainers.classifier import cifarlike


VERSION = 1
"""Raised whenever the same data would be packed in another way."""
GENERATED = {"mnist1d": 1, "cifar-like": cifarlike.VERSION}
"""Data sets that are computed where they are missing, and the version of what comes out."""
SPLITS = ("train", "valid", "test")
MANIFEST = "manifest.json"
FULL = (errno.ENOSPC, errno.EDQUOT)
"""How a disk, or the user's share of it, says that it is full."""

Arrays = Mapping[str, NDArray]
"""By file: `train-x.npy`, `train-y.npy` and so on."""


@dataclass(frozen=True)
class Whole:
    """A data set as its publisher splits it: for training and for testing."""

    x: NDArray
    y: NDArray
    x_test: NDArray
    y_test: NDArray


@dataclass(frozen=True)
class Pack:
    """A packed data set, mapped into memory."""

    arrays: Arrays
    mean: tuple[float, ...]
    """Of each channel of the training images, black being 0 and white 1; of no images, ()."""
    std: tuple[float, ...]


def folder() -> Path:
    """Where this machine keeps data sets."""
    asked = os.environ.get("RAYLOTTERY_DATA")
    if asked:
        return Path(asked).expanduser().absolute()
    try:
        return Path.home() / ".cache" / "raylottery"
    except RuntimeError as error:
        raise UsageError(
            "no folder to keep data sets in: this user has no home. Set RAYLOTTERY_DATA to one."
        ) from error


def place(name: str, size: DataSize) -> Path:
    """The folder of one data set in one size and version."""
    version = f"{VERSION}.{GENERATED[name]}" if name in GENERATED else f"{VERSION}"
    count = f"{size.train + size.valid}"
    if size.test != DATASETS[name].test:
        count += f"-{size.test}"
    return folder() / f"{name}-{count}-v{version}"


def is_here(at: Path) -> bool:
    with reading(at):
        return (at / MANIFEST).is_file()


def refuse_missing(name: str, size: DataSize, machine: str = "this machine") -> None:
    """Refuse a training on data that are not here and will not come by themselves."""
    at = place(name, size)
    if is_here(at):
        opened(name, size)
    elif name not in GENERATED:
        raise UsageError(
            f"trainer.dataset: {name} is not on {machine}. Fetch it once with: raylottery doctor "
            f"--fetch {name}"
        )


def opened(name: str, size: DataSize) -> Pack:
    """A packed data set; UsageError if what is there is not what was written."""
    at = place(name, size)
    try:
        with reading(at):
            manifest = json.loads((at / MANIFEST).read_bytes())
            # Copy on write: torch wants arrays that may be written to, and nobody writes to them.
            arrays = {file: np.load(at / file, mmap_mode="c") for file in manifest["files"]}
        mean, std = tuple(manifest["mean"]), tuple(manifest["std"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise damaged(name, at, str(error)) from error
    if {file: array.shape for file, array in arrays.items()} != shapes(size):
        raise damaged(name, at, "its files have other sizes than they should")
    return Pack(arrays, mean, std)


def verify(name: str, size: DataSize) -> None:
    """Read every byte of a packed data set; UsageError if one is not what was written."""
    opened(name, size)
    at = place(name, size)
    for file, expected in json.loads((at / MANIFEST).read_bytes())["files"].items():
        found = checksum(at / file)
        if found != expected:
            raise damaged(name, at, f"{file} has the sha256 {found}, written was {expected}")


def damaged(name: str, at: Path, why: str) -> UsageError:
    mend = (
        "Remove that folder, and it is made anew."
        if name in GENERATED
        else f"Put it right with: raylottery doctor --fetch {name}"
    )
    return UsageError(f"trainer.dataset: {name} is damaged in {at}: {why}. {mend}")


def shapes(size: DataSize) -> dict[str, tuple[int, ...]]:
    """The shape of each array."""
    counts = (size.train, size.valid, size.test)
    return {
        f"{split}-{part}.npy": shape
        for split, count in zip(SPLITS, counts, strict=True)
        for part, shape in (("x", (count, *size.shape)), ("y", (count,)))
    }


def write(name: str, size: DataSize, whole: Whole) -> None:
    """Split and pack a data set, for everyone on this machine from now on; hold its lock.

    Splits are fixed for everyone: the last examples of a permutation that belongs to the data
    set, not to the seed of a lineage, are held out for validation. The test set is the
    publisher's own.
    """
    import torch  # not to be loaded by whoever only looks whether the data are here

    order = torch.randperm(len(whole.y), generator=torch.Generator().manual_seed(0)).numpy()
    train, valid = order[: size.train], order[size.train :]
    arrays: Arrays = {
        "train-x.npy": whole.x[train],
        "train-y.npy": whole.y[train],
        "valid-x.npy": whole.x[valid],
        "valid-y.npy": whole.y[valid],
        "test-x.npy": whole.x_test,
        "test-y.npy": whole.y_test,
    }
    found = {file: array.shape for file, array in arrays.items()}
    assert found == shapes(size), f"{name} has sizes {found}, not {shapes(size)}"
    mean, std = moments(arrays["train-x.npy"])
    at = place(name, size)
    with scratch(at) as hidden:
        files = {file: saved(hidden / file, array) for file, array in arrays.items()}
        manifest = {"dataset": name, "files": files, "mean": mean, "std": std}
        flushed(hidden / MANIFEST, json.dumps(manifest, indent=2).encode())
        shutil.rmtree(at, ignore_errors=True)  # only what was found damaged
        os.rename(hidden, at)


def moments(images: NDArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each channel of images, by counting how often each value occurs."""
    if images.dtype != np.uint8:
        return (), ()
    counts = np.zeros((images.shape[1], 256))
    for begin in range(0, len(images), 1000):  # a count takes eight bytes a pixel
        for channel, counted in enumerate(counts):
            pixels = images[begin : begin + 1000, channel].ravel()
            counted += np.bincount(pixels, minlength=256)
    values = np.arange(256) / 255
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    return tuple(mean.tolist()), tuple(std.tolist())


@contextlib.contextmanager
def locked(at: Path, waiting: Callable[[], None] = lambda: None) -> Generator[None]:
    """Be the only one who writes a data set; `waiting` is called if another does so now."""
    with contextlib.ExitStack() as stack:
        with writing(at):
            at.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((at.parent / f".{at.name}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            for left in at.parent.glob(f".{at.name}.*.tmp"):
                shutil.rmtree(left)
        yield


@contextlib.contextmanager
def scratch(at: Path) -> Generator[Path]:
    """A hidden folder beside a data set's, gone afterwards unless it was renamed."""
    hidden = at.with_name(f".{at.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(at):
            hidden.mkdir(parents=True)
            yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextlib.contextmanager
def reading(at: Path) -> Generator[None]:
    """Says where it happened, and the mend, when this user may not read."""
    try:
        yield
    except PermissionError as error:
        raise UsageError(
            f"{at} cannot be read: {error.strerror or error}. Give yourself access to it, or set "
            f"RAYLOTTERY_DATA to another folder."
        ) from error


@contextlib.contextmanager
def writing(at: Path) -> Generator[None]:
    """Says where it happened, and the mend, when the disk refuses."""
    try:
        yield
    except OSError as error:
        mend = "Make room there" if error.errno in FULL else "Give yourself access to it"
        raise UsageError(
            f"{at.parent} cannot take a data set: {error.strerror or error}. {mend}, or set "
            f"RAYLOTTERY_DATA to another folder."
        ) from error


def saved(path: Path, array: NDArray) -> str:
    """Write an array, flushed to the disk; its checksum."""
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))
        file.flush()
        os.fsync(file.fileno())
    return checksum(path)


def flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
