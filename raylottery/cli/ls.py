"""`raylottery ls`: the sweeps of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


if TYPE_CHECKING:
    from raylottery.driver.stored import Standing


def ls(*, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> int:
    """List the sweeps of a store."""
    from raylottery.driver.stored import standing
    from raylottery.errors import StoreError
    from raylottery.store import Store

    opened = Store.existing(store)
    names = opened.sweeps()
    rows, unreadable = [], {}
    for name in names:
        try:
            rows.append(row(name, standing(name, opened)))
        except StoreError as error:
            unreadable[name] = str(error)
    if json:
        render.json(rows + [{"sweep": name, "error": why} for name, why in unreadable.items()])
    elif names:
        render.table(rows)
        render.lines(*(f"{name} cannot be read: {why}" for name, why in unreadable.items()))
    else:
        render.lines(f"no sweep in {store} yet: raylottery run SWEEP.yaml --store {store}")
    return 1 if unreadable else 0


def row(name: str, now: Standing) -> dict[str, str | int]:
    """How a sweep stands, in numbers."""
    plan = now.plan
    states = [plan.state(lineage) for lineage in plan.lineages]
    return {
        "sweep": name,
        "arms": len({lineage.arm.id for lineage in plan.lineages}),
        "seeds": len({lineage.seed for lineage in plan.lineages}),
        "lineages": len(states),
        "done": states.count("done"),
        "failed": states.count("failed"),
        "rounds": len(plan.rounds),
        "rounds_done": len(plan.rounds) - len(plan.todo),
        "runs": len(now.alive),
    }
