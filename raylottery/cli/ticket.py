"""`raylottery ticket`: a winning ticket as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, StoreOption


def ticket(
    name: Annotated[str, Parameter(help="The sweep.")],
    lineage: Annotated[str, Parameter(help="The lineage's id, or how it begins.")],
    round: Annotated[int, Parameter(help="The round; 0 is the dense one.")],
    /,
    *,
    to: Annotated[Path, Parameter(help="The safetensors file to write.")],
    control: Annotated[str, Parameter(help="A control of that round instead.")] = "ticket",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one round's ticket as safetensors, for plain torch."""
    from raylottery.driver.tickets import ticket_file
    from raylottery.errors import UsageError
    from raylottery.store import Store

    content = ticket_file(name, lineage, round, control, Store.existing(store))
    try:
        to.write_bytes(content)
    except OSError as error:
        raise UsageError(
            f"cannot write {to}: {error.strerror}. Name a file in a folder that exists and can be "
            f"written"
        ) from error
    render.lines(f"wrote {to} ({len(content) / 1e3:.0f} kB)")
