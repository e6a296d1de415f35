"""`raylottery report`: one self-contained page about a sweep, or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, StoreOption


def report(
    names: Annotated[tuple[str, ...], Parameter(help="One sweep or more.")],
    /,
    *,
    to: Annotated[
        Path | None,
        Parameter(help="The file to write; report.html in the first sweep's folder if left out."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write one self-contained page about a sweep, or several."""
    from raylottery.analysis import load
    from raylottery.analysis.report import gather, page
    from raylottery.errors import UsageError
    from raylottery.store.layout import sweep_file

    frame = load(*names, store=store)
    found = gather(frame)
    data = page(found).encode()
    if to is None:
        path = sweep_file(frame.names[0], "report.html")
        frame.files.write_if_changed(path, data)
        place = frame.files.where(path)
    else:
        try:
            to.write_bytes(data)
        except OSError as error:
            raise UsageError(
                f"cannot write {to}: {error.strerror or error}. Name a file in a folder that "
                "exists and can be written."
            ) from error
        place = str(to)
    render.lines(f"wrote {place}", found.opening)
