"""The tables of one or several sweeps as pandas frames, read when first asked for.

Each axis of the sweeps is a column of every table under its dotted name (`prune.scope`), so that
a plot or a group-by needs no join. A lineage that two sweeps share has rows under both names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
import pyarrow as pa

from raylottery.analysis.fields import axis_values, plain
from raylottery.errors import NotFoundError, UsageError, did_you_mean
from raylottery.store import layout
from raylottery.store.files import Files
from raylottery.store.opening import open_files
from raylottery.store.schemas import ANALYSES
from raylottery.store.tables import read_table


# Read as categories where only compared and grouped: 2 million ids are a few thousand names.
NAMES = ["lineage", "control", "lineage_mode", "metric"]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What was loaded: `rounds`, `curves`, `layers`, `failures`, `lineages`, and analyses."""

    names: tuple[str, ...]
    files: Files = field(repr=False)

    @cached_property
    def lineages(self) -> pd.DataFrame:
        """One row a lineage of each sweep: ids, label, seed, axis values, spec as JSON."""
        lineages = self.read("lineages").to_pandas()
        axes = axis_values(lineages)
        return pd.concat([lineages, axes.apply(plain)], axis=1)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a (lineage, control, lineage_mode, draw, round)."""
        return self._with_axes("rounds")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row an evaluation on the way."""
        return self._with_axes("curves")

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row a layer of each round."""
        return self._with_axes("layers")

    @cached_property
    def failures(self) -> pd.DataFrame:
        """One row a failed attempt."""
        return self._with_axes("failures")

    def analysis(self, kind: str) -> pd.DataFrame:
        """What `raylottery analyse NAME KIND` wrote, such as connectivity."""
        if kind not in ANALYSES:
            raise UsageError(
                f"no such kind of analysis: {kind!r}. {did_you_mean(kind, ANALYSES)} "
                f"docs/probes.md has them."
            )
        return self._with_axes(kind)

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One table of all the sweeps as stored, with those of `columns` that it has."""
        parts = [self._read_one(name, table, columns) for name in self.names]
        try:
            return pa.concat_tables(parts, promote_options="default")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(
                f"the {table} of {' and '.join(self.names)} have columns of different types "
                f"({error}). Load them one at a time, or run the older sweep again, which "
                "rewrites its tables."
            ) from error

    def _read_one(self, name: str, table: str, columns: Sequence[str] | None) -> pa.Table:
        dictionaries = [column for column in NAMES if column in (columns or ())]
        try:
            return read_table(self.files, _table(name, table), columns, dictionaries)
        except FileNotFoundError as error:
            if table in ANALYSES:
                raise NotFoundError(
                    f"the {table} of sweep {name!r} has not been analysed yet: "
                    f"raylottery analyse {name} {table}"
                ) from error
            raise NotFoundError(
                f"sweep {name!r} has no {table}.parquet yet: it is written when the sweep ends or "
                f"is interrupted. Finish it with `raylottery run`, then look again."
            ) from error

    def _with_axes(self, table: str) -> pd.DataFrame:
        # Millions of rows: each column is freed once it is converted, and none is copied.
        rows = self.read(table).to_pandas(split_blocks=True, self_destruct=True)
        keys = ["sweep", "lineage"]
        paths = list(axis_values(self.lineages))
        axes = self.lineages[keys + paths]
        values = rows[keys].merge(axes, on=keys, how="left", validate="many_to_one")
        return pd.concat([rows, values[paths]], axis=1)


def load(*names: str, store: str | os.PathLike[str] | None = None) -> Frame:
    """Opens sweeps of a store by name; no table is read before it is asked for.

    Args:
      names: the sweeps, one or several.
      store: a path or a URI; RAYLOTTERY_STORE or `./results` if left out.
    """
    if not names:
        raise UsageError("no sweep named. Name one or several, such as load('quickstart').")
    files = open_files(store or os.environ.get("RAYLOTTERY_STORE") or "./results")
    for name in names:
        if files.exists(_table(name, "rounds")):
            continue
        there = files.list(layout.SWEEPS)
        if name in there:
            raise NotFoundError(
                f"sweep {name!r} has no finished rounds yet. See `raylottery status {name}`."
            )
        raise NotFoundError(
            f"no sweep {name!r} in {files.where('')}. "
            + (did_you_mean(name, there) or "It holds none yet: make one with `raylottery run`.")
        )
    return Frame(names=tuple(dict.fromkeys(names)), files=files)


def _table(sweep: str, table: str) -> str:
    return layout.analysis(sweep, table) if table in ANALYSES else layout.table(sweep, table)
