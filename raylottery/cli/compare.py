"""`raylottery compare`: the answer to a sweep's question, from its Parquet alone."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def compare(
    names: Annotated[tuple[str, ...], Parameter(help="One sweep or more.")],
    /,
    *,
    by: Annotated[
        str,
        Parameter(help="What to compare: prune.scope, rewind.weights, another field, control."),
    ],
    at_density: Annotated[
        tuple[float, ...],
        Parameter(help="Compare at this density alone; may be repeated."),
    ] = (),
    metric: Annotated[str, Parameter(help="The column of rounds.parquet to compare.")] = "score",
    against: Annotated[
        str | None, Parameter(help="The value that the others are compared with.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Answer the question of a sweep, paired by seed at matched density."""
    from raylottery.analysis import compare as answer
    from raylottery.analysis import load
    from raylottery.errors import UsageError

    if not names:
        raise UsageError("name a sweep to compare: raylottery compare NAME --by prune.scope")
    frame = load(*names, store=store)
    found = answer(frame, by, at_density=at_density or None, metric=metric, against=against)
    if json:
        render.json({"rows": found.to_rows(), "notes": found.notes})
    else:
        render.comparison(found)
