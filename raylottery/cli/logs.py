"""`raylottery logs`: what the lineages of a sweep had to say, from the store."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JobsOption, JsonOption, StoreOption


def logs(
    name: Annotated[str, Parameter(help="The sweep.")],
    lineage: Annotated[
        str, Parameter(help="One lineage, by its id or the beginning of it; without it, all.")
    ] = "",
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    failed: Annotated[bool, Parameter(help="Only lineages that failed.")] = False,
    address: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Print the logs of a sweep's lineages, kept in the store."""
    from raylottery.driver import stored
    from raylottery.store import Store

    opened = Store.existing(store)
    found = stored.logs(name, opened, lineage=lineage, only_failed=failed)
    said = {}
    if address is not None:
        from raylottery.driver.jobs import Jobs

        jobs = Jobs(address)
        said = {job.id: jobs.log(job.id) for job in jobs.of(name, opened)}
    if json:
        render.json(
            [
                {
                    "lineage": log.lineage.id,
                    "arm_label": log.lineage.arm.label,
                    "seed": log.lineage.seed,
                    "state": log.state,
                    "job": None,
                    "log": log.text,
                }
                for log in found
            ]
            + [
                {"lineage": None, "arm_label": None, "seed": None, "state": None,
                 "job": job, "log": text}
                for job, text in said.items()
            ]
        )  # fmt: skip
        return
    for log in found:
        about = f"{log.lineage.arm.label}, seed {log.lineage.seed}: {log.state}"
        render.section(f"{log.lineage.id} ({about})", log.text)
    for job, text in said.items():
        render.section(f"job {job}", text)
    if not found and not said:
        render.lines(f"no lineage of {name} failed" if failed else f"{name} has no logs yet")
