"""`raylottery status`: one sweep as a whole, from the store alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JobsOption, JsonOption, StoreOption


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raylottery.driver.jobs import Job
    from raylottery.driver.stored import Standing


EVERY_S = 5.0


def status(
    name: Annotated[str, Parameter(help="The sweep.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    watch: Annotated[
        bool, Parameter(help="Look again every 5 seconds, until nothing runs any more.")
    ] = False,
    serve: Annotated[
        bool,
        Parameter(
            help="Show it, and the report as far as it is, on a page that keeps up to date."
        ),
    ] = False,
    port: Annotated[
        int | None,
        Parameter(
            help="Where --serve answers, at 127.0.0.1 alone; 8787 or the next free one if "
            "left out."
        ),
    ] = None,
    address: JobsOption = None,
    json: JsonOption = False,
) -> int:
    """Show one sweep: arms by seeds, rounds done, what runs, time left, first errors."""
    from raylottery.driver.stored import refuse_unknown, standing
    from raylottery.errors import UsageError
    from raylottery.store import Store

    if watch and json:
        raise UsageError("--watch draws a table again and again, --json prints once: give one")
    if serve and (watch or json):
        raise UsageError(
            f"--serve answers browsers until Ctrl-C, {'--watch' if watch else '--json'} writes "
            "here: give one"
        )
    if port is not None and not serve:
        raise UsageError("--port says where --serve answers: give --serve too, or leave it out")
    opened = Store.existing(store)

    before: Standing | None = None

    def look() -> tuple[Standing, Sequence[Job]]:
        nonlocal before
        now = before = standing(name, opened, before)
        if address is None:
            return now, ()
        from raylottery.driver.jobs import Jobs

        return now, Jobs(address).of(name, opened)

    if serve:
        from raylottery.cli.serve import serve as answer_browsers

        refuse_unknown(name, opened)
        return answer_browsers(name, opened.files, look, port)
    if watch:
        now = watched(look, store)
    else:
        now, jobs = look()
        if json:
            render.json(as_json(now, jobs))
        else:
            render.standing(now, jobs, store)
    return 1 if any(now.error(lineage) for lineage in now.plan.lineages) else 0


def watched(look: Callable[[], tuple[Standing, Sequence[Job]]], store: str) -> Standing:
    """Show how a sweep stands until it stands still; its last standing."""
    while True:
        now, jobs = look()
        if not now.under_way or render.redrawn():
            render.standing(now, jobs, store)
        else:
            render.lines(render.stand(now))
        if not now.under_way:
            return now
        time.sleep(EVERY_S)


def as_json(now: Standing, jobs: Sequence[Job]) -> dict:
    plan = now.plan
    return {
        "sweep": plan.sweep.name,
        "rounds": len(plan.rounds),
        "rounds_to_do": len(plan.todo),
        "eta_seconds": now.eta_s,
        "runs": [
            {
                "run": run.run,
                "place": run.place,
                "job": run.job,
                "host": run.holder.host,
                "pid": run.holder.pid,
                "began": run.began,
                "heard_of_at": run.at,
                "seems_alive": run.seems_alive,
                "rounds_trained": run.trained,
            }
            for run in now.runs
        ],
        "waiting": [
            {"job": one.job, "address": one.address, "at": one.at, "refused": one.refused}
            for one in now.waiting
        ],
        "jobs": [{"job": job.id, "status": job.status, "message": job.message} for job in jobs],
        "lineages": [
            {
                "arm": lineage.arm.id,
                "arm_label": lineage.arm.label,
                "seed": lineage.seed,
                "lineage": lineage.id,
                "state": plan.state(lineage),
                "rounds": len(lineage.rounds),
                "rounds_to_do": len(plan.unfinished(lineage)),
                "error": now.error(lineage),
            }
            for lineage in plan.lineages
        ],
    }
