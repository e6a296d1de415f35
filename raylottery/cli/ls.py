"""`raylottery ls`: the sweeps of a store."""

from __future__ import annotations

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def ls(*, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """List the sweeps of a store."""
    from raylottery.driver.stored import standing
    from raylottery.store import Store

    opened = Store.existing(store)
    rows = []
    for name in opened.sweeps():
        now = standing(name, opened)
        plan = now.plan
        states = [plan.state(lineage) for lineage in plan.lineages]
        rows.append(
            {
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
        )
    if json:
        render.json(rows)
    elif rows:
        render.table(rows)
    else:
        render.lines(f"no sweep in {store} yet: raylottery run SWEEP.yaml --store {store}")
