"""`raylottery status`: one sweep as a whole, from the store alone."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def status(
    name: Annotated[str, Parameter(help="The sweep.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> int:
    """Show one sweep: arms by seeds, rounds done, first errors."""
    from raylottery.driver.stored import stored_plan
    from raylottery.store import Store

    plan = stored_plan(name, Store.existing(store))
    states = {lineage.id: plan.state(lineage) for lineage in plan.lineages}
    errors = {
        lineage.id: plan.failures[plan.unfinished(lineage)[0].key][-1]["first_line"]
        for lineage in plan.lineages
        if states[lineage.id] == "failed"
    }
    if json:
        render.json(
            {
                "sweep": name,
                "rounds": len(plan.rounds),
                "rounds_to_do": len(plan.todo),
                "lineages": [
                    {
                        "arm": lineage.arm.id,
                        "arm_label": lineage.arm.label,
                        "seed": lineage.seed,
                        "lineage": lineage.id,
                        "state": states[lineage.id],
                        "rounds": len(lineage.rounds),
                        "rounds_to_do": len(plan.unfinished(lineage)),
                        "error": errors.get(lineage.id),
                    }
                    for lineage in plan.lineages
                ],
            }
        )
    else:
        render.grid(plan)
        render.table(
            [
                {
                    "lineage": line.id,
                    "arm": line.arm.label,
                    "seed": line.seed,
                    "is": states[line.id],
                }
                for line in plan.lineages
            ]
        )
        done = len(plan.rounds) - len(plan.todo)
        render.lines(
            f"{name}: {done} of {len(plan.rounds)} distinct rounds done",
            *(f"{lineage} failed: {error}" for lineage, error in errors.items()),
            *(["again: raylottery run SWEEP.yaml --only failed"] if errors else []),
        )
    return 1 if errors else 0
