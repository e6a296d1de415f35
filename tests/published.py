"""Small data sets in the very formats that CIFAR and MNIST are published in.

`publish` writes the files into a folder; the sizes and the checksums that raylottery knows become
theirs for one test, and everything else is as it is shipped.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from raylottery.spec import DATASETS, DataSize
from raylottery.trainers.classifier import fetch
from raylottery.trainers.classifier.packed import Whole


TRAIN, VALID, TEST = 45, 5, 10


def publish(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Whole:
    """Write a small data set called `name` and make it the published one; what is in it."""
    published = DATASETS[name]
    size = DataSize(
        train=TRAIN, valid=VALID, test=TEST, shape=published.shape, classes=published.classes
    )
    whole = made_up(size)
    folder.mkdir(parents=True, exist_ok=True)
    (write_cifar if "cifar" in name else write_mnist)(name, folder, whole)
    patch.setitem(DATASETS, name, size)
    trust(name, folder, patch)
    return whole


def trust(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the files as they now are the ones that are expected."""
    sums = {
        file: f"sha256:{hashlib.sha256((folder / file).read_bytes()).hexdigest()}"
        for file in fetch.CHECKSUMS[name]
    }
    patch.setitem(fetch.CHECKSUMS, name, sums)


def made_up(size: DataSize) -> Whole:
    random = np.random.default_rng(0)
    count = size.train + size.valid
    return Whole(
        x=random.integers(0, 256, (count, *size.shape), np.uint8),
        y=random.integers(0, size.classes, count),
        x_test=random.integers(0, 256, (size.test, *size.shape), np.uint8),
        y_test=random.integers(0, size.classes, size.test),
    )


def write_cifar(name: str, folder: Path, whole: Whole) -> None:
    """One archive of pickled batches, each image a row of 3072 bytes, colour by colour."""
    kind = fetch.CIFARS[name]
    labels = "labels" if name == "cifar10" else "fine_labels"
    files = [file for file, _ in kind.train_list]
    parts = [
        (file, {"data": x.reshape(len(x), -1), labels: y.tolist()})
        for file, x, y in zip(
            files,
            np.array_split(whole.x, len(files)),
            np.array_split(whole.y, len(files)),
            strict=True,
        )
    ]
    [[test, _]] = kind.test_list
    parts.append((test, {"data": whole.x_test.reshape(TEST, -1), labels: whole.y_test.tolist()}))
    parts.append((kind.meta["filename"], {kind.meta["key"]: ["a name"]}))
    with tarfile.open(folder / kind.filename, "w:gz") as archive:
        for file, content in parts:
            data = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"{kind.base_folder}/{file}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_mnist(name: str, folder: Path, whole: Whole) -> None:
    """Compressed IDX files: a magic number, the sizes as big-endian integers, the bytes."""
    for split, x, y in (("train", whole.x, whole.y), ("t10k", whole.x_test, whole.y_test)):
        for file, array in ((f"{split}-images-idx3", x[:, 0]), (f"{split}-labels-idx1", y)):
            header = np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
            data = header + array.astype(np.uint8).tobytes()
            (folder / f"{file}-ubyte.gz").write_bytes(gzip.compress(data))
