"""`raylottery plan`: what a sweep asks for, against what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, SetOption, StoreOption


def plan(
    sweep: Annotated[Path, Parameter(help="The sweep file.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    set_: SetOption = (),
    json: JsonOption = False,
) -> None:
    """Show what a sweep would train, and what of it is done; starts nothing."""
    from raylottery.driver.plan import guess, inspect, make_plan
    from raylottery.driver.run import refuse_another_study
    from raylottery.spec import read_sweep
    from raylottery.store import Store

    spec = read_sweep(sweep, set_)
    opened = Store.find(store)
    if opened is not None:
        refuse_another_study(spec, opened)
    planned = make_plan(spec, opened)
    guessed = guess(planned, opened, inspect(planned))
    requests = list(dict.fromkeys(line.arm.study.resources for line in planned.lineages))
    if json:
        render.json(
            {
                "sweep": spec.name,
                "store": store,
                "lineages": [
                    {
                        "arm": lineage.arm.id,
                        "arm_label": lineage.arm.label,
                        "seed": lineage.seed,
                        "lineage": lineage.id,
                        "state": planned.state(lineage),
                        "rounds": len(lineage.rounds),
                        "rounds_to_do": len(planned.unfinished(lineage)),
                    }
                    for lineage in planned.lineages
                ],
                "rounds": len(planned.rounds),
                "rounds_to_do": len(planned.todo),
                "rounds_shared": planned.shared,
                "updates_to_do": sum(round.end - round.clock for round in planned.todo),
                "resources": [request.model_dump() for request in requests],
                "megabytes": guessed.megabytes,
                "worker_seconds": guessed.worker_seconds,
            }
        )
        return
    render.grid(planned)
    render.lines(
        f"{len(planned.lineages)} lineages, {len(planned.rounds)} distinct rounds "
        f"({planned.shared} more are shared), {len(planned.todo)} to train",
        f"each trial: {' or '.join(f'{r.cpus:g} CPU, {r.gpus:g} GPU' for r in requests)}",
        f"will add about {render.size(guessed.megabytes)} to {store}",
        "time: no round of this sweep is measured yet"
        if guessed.worker_seconds is None
        else f"time: about {render.duration(guessed.worker_seconds)} of worker time, "
        f"from this sweep's own rounds",
    )
