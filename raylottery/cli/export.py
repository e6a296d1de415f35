"""`raylottery export`: a sweep's rounds in a file of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, StoreOption


def export(
    name: Annotated[str, Parameter(help="The sweep.")],
    /,
    *,
    to: Annotated[Path, Parameter(help="The file to write: .csv, .parquet or .tex.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write a sweep's rounds as csv, parquet or latex."""
    from raylottery.analysis import export as write
    from raylottery.analysis import load

    write(load(name, store=store), to)
    render.lines(f"wrote {to}")
