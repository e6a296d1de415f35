"""`raylottery prune-store`: remove what no sweep refers to."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


LISTED = 10


def prune_store(
    *,
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[
        bool, Parameter(help="Remove it; without this, only say what would go.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove what no sweep of a store refers to."""
    from raylottery.driver.prune_store import KINDS, find_waste, remove
    from raylottery.store import Store

    opened = Store.existing(store)
    found = find_waste(opened)
    groups = remove(found, opened) if yes else found.groups
    kinds = {kind: [group for group in groups if group.kind == kind] for kind in KINDS}
    total = sum(group.bytes for group in groups)
    if json:
        render.json(
            {
                "store": store,
                "removed": yes,
                "bytes": total,
                "found": [
                    {
                        "kind": kind,
                        "count": len(those),
                        "bytes": sum(group.bytes for group in those),
                        "files": [file.path for group in those for file in group.files],
                    }
                    for kind, those in kinds.items()
                ],
                "rounds_in_use": found.in_use,
                "sweeps_running": sorted(found.referred.live),
                "unknown_files": found.unknown,
            }
        )
        return
    render.table(
        [
            {
                "": kind,
                "count": len(those),
                "size": render.size(sum(group.bytes for group in those) / 1e6),
            }
            for kind, those in kinds.items()
            if those
        ]
    )
    if found.in_use:
        render.lines(f"left alone: {len(found.in_use)} rounds that are being trained")
    if found.referred.live:
        render.lines(f"left alone: what runs now ({', '.join(sorted(found.referred.live))})")
    if found.unknown:
        more = f" and {len(found.unknown) - LISTED} more" if found.unknown[LISTED:] else ""
        shown = ", ".join(found.unknown[:LISTED])
        render.lines(f"left alone: files that are none of a store's: {shown}{more}")
    if not groups:
        render.lines(f"nothing in {store} is without a sweep that refers to it")
    elif yes:
        render.lines(f"removed {render.size(total / 1e6)} from {store}")
    else:
        render.lines(
            f"{render.size(total / 1e6)} would go from {store}; nothing was removed. To remove "
            f"it: raylottery prune-store --store {render.quoted(store)} --yes"
        )
