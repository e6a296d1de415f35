"""`raylottery cancel`: end whatever trains a sweep, through the store."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JobsOption, StoreOption


def cancel(
    name: Annotated[str, Parameter(help="The sweep.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    now: Annotated[
        bool, Parameter(help="At once, instead of at the end of the rounds that are running.")
    ] = False,
    address: JobsOption = None,
) -> None:
    """End all runs of a sweep: at the end of their rounds, or at once."""
    from raylottery.driver import live
    from raylottery.driver.stored import refuse_unknown
    from raylottery.errors import NotFoundError
    from raylottery.store import Store

    opened = Store.open(store)
    refuse_unknown(name, opened)
    when = "at once" if now else "when its running rounds are done"
    done = live.cancel(opened, name, "now" if now else "round")
    told = [f"run {run.run} on {run.holder.host}: ends {when}" for run in done.asked]
    told += [f"job {letter.job}: had not begun, and will not" for letter in done.recalled]
    if address is not None:
        from raylottery.driver.jobs import Jobs

        waiting = {letter.job for letter in done.recalled}
        jobs = Jobs(address)
        for job in jobs.of(name, opened):
            if job.alive and (now or job.id in waiting or not done.asked):
                jobs.stop(job.id)
                told.append(f"job {job.id}: stopped")
    gone = [f"run {run.run} on {run.holder.host} is gone: last heard of at {run.at}"
            for run in done.gone]  # fmt: skip
    if not told:
        raise NotFoundError(
            "; ".join([f"nothing of {name!r} runs, as far as {store} tells", *gone])
            + (". A Ray job that cannot write there is found with --address http://HOST:8265"
               if address is None else f", nor at {address}")
        )  # fmt: skip
    render.lines(
        *told, *gone, f"see: raylottery status {name} --store {render.quoted(store)} --watch"
    )
