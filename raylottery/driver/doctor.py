"""What `raylottery doctor` looks at."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import NamedTuple

from raylottery import __version__
from raylottery.driver.provenance import installed
from raylottery.spec import DATASETS
from raylottery.store import Store
from raylottery.trainers import gpus


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    sound: bool
    found: str


def examine(store: str | None) -> list[Finding]:
    """Everything a sweep needs on this machine; the rounds of a store, where one is given."""
    findings = [] if store is None else [*stored(store)]
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
    from raylottery.trainers.classifier.data import load

    for name in DATASETS:
        data = load(name, "cpu")
        yield Finding(
            f"data set {name}",
            True,
            f"{len(data.train)} training, {len(data.valid)} validation, {len(data.test)} test",
        )


def stored(uri: str) -> Iterator[Finding]:
    Store.existing(uri)
    store = Store.open(uri)
    yield Finding("store", True, f"{store.uri} can be written")
    problems = [str(problem) for problem in store.check()]
    yield from (Finding("store", False, problem) for problem in problems)
    if not problems:
        yield Finding("store", True, "every round's record and files are sound")
