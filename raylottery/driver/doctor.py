"""What `raylottery doctor` looks at."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from raylottery import __version__
from raylottery.driver.mend import Finding, stored
from raylottery.driver.provenance import installed
from raylottery.errors import UsageError
from raylottery.spec import DATASETS, DataSize
from raylottery.trainers import gpus


if TYPE_CHECKING:
    from raylottery.trainers.classifier.fetch import Watcher


def examine(store: str | None, *, repair: bool = False) -> list[Finding]:
    """Everything a sweep needs on this machine; all of a store, where one is given."""
    findings = [] if store is None else [*stored(store, repair=repair)]
    return [*versions(), hardware(), *datasets(), *findings]


def versions() -> Iterator[Finding]:
    yield Finding("raylottery", True, f"{__version__} on Python {platform.python_version()}")
    for package in ("ray", "torch", "pyarrow", "pandas", "numpy"):
        found = installed(package)
        yield Finding(package, found is not None, found or "missing: pip install raylottery again")


def hardware() -> Finding:
    found = ", ".join(gpus()) or "none"
    return Finding("devices", True, f"{os.cpu_count()} CPUs, GPUs: {found}")


def datasets() -> Iterator[Finding]:
    for name, size in DATASETS.items():
        yield dataset(name, size)


def dataset(name: str, size: DataSize) -> Finding:
    """A data set, read to its last byte; one that is generated is made, if it has to be."""
    from raylottery.trainers.classifier import data, packed

    what = f"data set {name}"
    try:
        if name not in packed.GENERATED and not packed.is_here(packed.place(name, size)):
            return Finding(what, True, f"not here; get it with: raylottery doctor --fetch {name}")
        data.provide(name, size)
        packed.verify(name, size)
    except UsageError as error:
        return Finding(what, False, str(error))
    return Finding(what, True, f"{size.train} training, {size.valid} validation, {size.test} test")


class Fetched(NamedTuple):
    """A data set that is here now."""

    dataset: str
    folder: str
    fetched: bool
    """False if it was here already."""


def fetch(name: str, mirror: str | None, watcher: Watcher) -> Fetched:
    """Bring a published data set to this machine, for all trials to come."""
    from raylottery.trainers.classifier import packed
    from raylottery.trainers.classifier.fetch import fetch as bring

    fetched = bring(name, mirror, watcher)
    return Fetched(name, str(packed.place(name, DATASETS[name])), fetched)
