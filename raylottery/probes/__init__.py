"""What stored tickets tell besides their scores, kind by kind, each as one more table of a sweep.

A probe reads finished rounds and gives rows. Nothing is trained, networks run in torch on the CPU
whatever engine trained them, and the same rounds give the same table. A table is as of the moment
it was written: after a sweep has grown, ask again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raylottery.errors import UsageError, did_you_mean
from raylottery.probes.finished import FinishedRounds, Tell
from raylottery.spec import Sweep
from raylottery.store import Store, layout
from raylottery.store.schemas import ANALYSES
from raylottery.store.tables import typed, write_table


Probe = Callable[[FinishedRounds], Iterable[Mapping[str, Any]]]

PROBES = {
    "connectivity": "raylottery.probes.connectivity:rows",
    "overlap": "raylottery.probes.overlap:rows",
    "profiles": "raylottery.probes.profiles:rows",
    "inputs": "raylottery.probes.inputs:rows",
    "dormant": "raylottery.probes.dormant:rows",
    "size": "raylottery.probes.size:rows",
}
"""The function that gives the rows of each kind, loaded when it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One kind of analysis of a sweep, as it was written."""

    kind: str
    table: pa.Table
    path: str
    """Where it lies, in full."""
    missing: int
    """Rounds of the sweep that are not finished, and so not in it."""


def analyse(
    kind: str, sweep: Sweep, store: Store, tell: Tell = lambda done, total: None
) -> Analysis:
    """Probe the finished rounds of a sweep and write the table of it."""
    if kind not in PROBES:
        raise UsageError(f"no such kind of analysis: {kind!r}. {did_you_mean(kind, PROBES)}")
    found = FinishedRounds.of(sweep, store, tell)
    module, name = PROBES[kind].split(":")
    rows: Probe = getattr(importlib.import_module(module), name)
    table = typed(rows(found), ANALYSES[kind])
    path = layout.analysis(sweep.name, kind)
    write_table(store.files, path, table)
    return Analysis(kind=kind, table=table, path=store.files.where(path), missing=found.missing)
