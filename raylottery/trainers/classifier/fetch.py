"""Brings a published data set to this machine, once: download, check, read, pack.

The files come from the publisher's own addresses, or from a mirror, into a hidden folder that is
gone afterwards, however it ends. A file is read only when its checksum is right; it is read by
torchvision's own classes. One fetches at a time: another waits, and then finds it there.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import numpy as np
from torchvision import datasets
from torchvision.datasets.utils import extract_archive

from raylottery.errors import DataError, NotFoundError, RaylotteryError, UsageError, did_you_mean
from raylottery.spec import DATASETS
from raylottery.trainers.classifier import packed
from raylottery.trainers.classifier.packed import Whole


CIFARS = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
MNISTS = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}
CHECKSUMS: dict[str, dict[str, str]] = {
    name: {kind.filename: f"md5:{kind.tgz_md5}"} for name, kind in CIFARS.items()
} | {name: {file: f"md5:{md5}" for file, md5 in kind.resources} for name, kind in MNISTS.items()}
"""The files of every data set, and what they are known by."""
PATIENCE_S = 60.0
PIECE = 2**18


class Watcher(Protocol):
    """Who is told how far a fetch has got."""

    def say(self, line: str) -> None: ...

    def begins(self, file: str, total: int | None) -> None:
        """A file of so many bytes, if that is known, begins to arrive."""
        ...

    def arrived(self, count: int) -> None:
        """More bytes of it came."""
        ...


def fetch(name: str, mirror: str | None, watcher: Watcher) -> bool:
    """Bring a data set here; False if it was here."""
    refuse_unpublished(name)
    folders = publishers(name) if mirror is None else [checked(mirror)]
    size = DATASETS[name]
    at = packed.place(name, size)
    with packed.locked(at, lambda: watcher.say(f"another process is fetching {name}: waiting")):
        if packed.is_here(at):
            try:
                packed.verify(name, size)
                return False
            except UsageError:
                watcher.say(f"{name} is damaged in {at}: fetching it again")
        with packed.scratch(at) as hidden:
            for file, checksum in CHECKSUMS[name].items():
                obtain(name, file, checksum, folders, hidden, watcher)
            watcher.say(f"packing {name}")
            packed.write(name, size, read(name, hidden))
    return True


def refuse_unpublished(name: str) -> None:
    if name in packed.GENERATED:
        raise UsageError(f"--fetch {name}: it is generated where it is used; nothing to fetch")
    if name not in CHECKSUMS:
        raise UsageError(f"--fetch {name}: no such data set. {did_you_mean(name, CHECKSUMS)}")


def publishers(name: str) -> Sequence[str]:
    """The folders that the publisher's files lie in."""
    if name in CIFARS:
        return [CIFARS[name].url.removesuffix(CIFARS[name].filename)]
    return MNISTS[name].mirrors


def checked(mirror: str) -> str:
    """A mirror's address; UsageError if it is none."""
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https", "file") or not (parts.netloc or parts.path):
        local = (
            Path(mirror).absolute().as_uri() if Path(mirror).is_dir() else "file:///data/mirror"
        )
        raise UsageError(
            f"--from {mirror}: expected the http://, https:// or file:// address of a folder "
            f"that holds the publisher's files, such as {local}"
        )
    return mirror


def obtain(
    name: str, file: str, checksum: str, folders: Sequence[str], to: Path, watcher: Watcher
) -> None:
    """One file of a data set, from the first folder that has it as it should be."""
    refusals: list[RaylotteryError] = []
    for folder in folders:
        try:
            return download(f"{folder.rstrip('/')}/{quote(file)}", to / file, checksum, watcher)
        except (NotFoundError, DataError) as refusal:
            refusals.append(refusal)
    said = "; ".join(str(refusal) for refusal in refusals)
    raise type(refusals[-1])(
        f"{name} was not fetched, and nothing of it is kept: {said}. Try again later, or name a "
        f"folder with the publisher's files: raylottery doctor --fetch {name} --from URL"
    ) from refusals[-1]


def download(url: str, to: Path, checksum: str, watcher: Watcher) -> None:
    """The file at `url`; DataError if it is not the one that the checksum belongs to."""
    method, _, expected = checksum.partition(":")
    digest = hashlib.new(method, usedforsecurity=False)
    count = 0
    with reaching(url):
        response = urlopen(Request(url, headers={"User-Agent": "raylottery"}), timeout=PATIENCE_S)
    with response, to.open("wb") as file:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        watcher.begins(to.name, total)
        while True:
            with reaching(url):
                piece = response.read(PIECE)
            if not piece:
                break
            file.write(piece)
            digest.update(piece)
            count += len(piece)
            watcher.arrived(len(piece))
    if total is not None and count != total:
        raise NotFoundError(f"{url} broke off after {count} of {total} bytes")
    found = digest.hexdigest()
    if found != expected:
        raise DataError(
            f"{url} is not the publisher's file: its {method} is {found} ({count} bytes), "
            f"expected was {expected}"
        )


@contextlib.contextmanager
def reaching(url: str) -> Generator[None]:
    try:
        yield
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise NotFoundError(f"{url} cannot be read: {error}") from error


def read(name: str, root: Path) -> Whole:
    """A data set from the publisher's files in a folder."""
    reader: Callable[[str, Path], Whole] = read_cifar if name in CIFARS else read_mnist
    try:
        whole = reader(name, root)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in packed.FULL:
            raise  # says `writing`, with its mend
        raise unreadable(name, f"{type(error).__name__}: {error}") from error
    size = DATASETS[name]
    expected = ((size.train + size.valid, *size.shape), (size.test, *size.shape))
    found = (whole.x.shape, whole.x_test.shape)
    labels = {len(whole.y), len(whole.y_test)}
    if found != expected or labels != {len(whole.x), len(whole.x_test)}:
        raise unreadable(name, f"images {found} with {labels} labels, expected were {expected}")
    return whole


def unreadable(name: str, why: str) -> DataError:
    files = ", ".join(CHECKSUMS[name])
    return DataError(
        f"{name} cannot be read, and nothing of it is kept: {files} as the publisher made it, but "
        f"{why}. Is torchvision as it was installed?"
    )


def read_cifar(name: str, root: Path) -> Whole:
    kind = CIFARS[name]
    extract_archive(root / kind.filename, root)
    # The archive was checked as a whole; torchvision would check its parts by sums of its own.
    unchecked = {
        part: [[file, None] for file, _ in getattr(kind, part)]
        for part in ("train_list", "test_list")
    }
    reader = type(kind.__name__, (kind,), unchecked | {"meta": kind.meta | {"md5": None}})
    train, test = (reader(root, train=wanted) for wanted in (True, False))
    return Whole(
        x=train.data.transpose(0, 3, 1, 2),
        y=np.array(train.targets, np.int64),
        x_test=test.data.transpose(0, 3, 1, 2),
        y_test=np.array(test.targets, np.int64),
    )


def read_mnist(name: str, root: Path) -> Whole:
    kind = MNISTS[name]
    raw = root / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    for file in CHECKSUMS[name]:
        extract_archive(root / file, raw)
    train, test = (kind(root, train=wanted) for wanted in (True, False))
    return Whole(
        x=train.data.numpy()[:, None],
        y=train.targets.numpy(),
        x_test=test.data.numpy()[:, None],
        y_test=test.targets.numpy(),
    )
