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
    """Write one round's ticket as safetensors, for plain torch.

    The file holds the weights the round started from (start.NAME), its mask (mask.NAME) and the
    weights it ended with (trained.NAME), under the network's own parameter names.
    """
    from raylottery.driver.tickets import ticket_file
    from raylottery.store import Store

    content = ticket_file(name, lineage, round, control, Store.existing(store))
    to.write_bytes(content)
    render.lines(f"wrote {to} ({len(content) / 1e3:.0f} kB)")
