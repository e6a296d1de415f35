"""`raylottery analyse`: a probe of a sweep's stored tickets, as one more table."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import progress, render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def analyse(
    name: Annotated[str, Parameter(help="The sweep.")],
    kind: Annotated[
        str,
        Parameter(help="connectivity, overlap, profiles, inputs, dormant or size."),
    ],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Probe a sweep's stored tickets, and write what is found as one more table."""
    from raylottery.driver.stored import refuse_unknown, stored_sweep
    from raylottery.probes import analyse as probe
    from raylottery.probes.summary import summary
    from raylottery.store import Store

    opened = Store.existing(store)
    refuse_unknown(name, opened)
    with progress.counting(quiet=json) as tell:
        found = probe(kind, stored_sweep(name, opened), opened, tell)
    if json:
        render.json(
            {
                "sweep": name,
                "kind": kind,
                "path": found.path,
                "missing_rounds": found.missing,
                "rows": found.table.to_pylist(),
            }
        )
    else:
        render.table(summary(kind, found.table))
        left = f"; {found.missing} rounds are not finished and not in it" * bool(found.missing)
        render.lines(
            "Means over seeds, of the last round that is there.",
            f"wrote {found.path} ({found.table.num_rows} rows{left})",
        )
