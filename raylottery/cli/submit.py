"""`raylottery submit`: hand a sweep to a cluster as a Ray job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    MostOption,
    OnlyOption,
    ReplaceOption,
    SetOption,
    StoreOption,
    TrackOption,
)


def submit(
    sweep: Annotated[Path, Parameter(help="The sweep file.")],
    /,
    *,
    address: Annotated[
        str, Parameter(help="The dashboard of the cluster's head, as http://HOST:8265.")
    ],
    store: StoreOption = DEFAULT_STORE,
    set_: SetOption = (),
    env: Annotated[
        Literal["image", "wheel", "uv"],
        Parameter(
            help="Where the job finds raylottery: installed on the cluster (image), sent along "
            "(wheel), or in an environment that uv makes there (uv)."
        ),
    ] = "image",
    max_concurrent: MostOption = None,
    only: OnlyOption = None,
    replace: ReplaceOption = False,
    track: TrackOption = (),
    follow: Annotated[
        bool, Parameter(help="Show the job's lines until it ends, and exit as it does.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Hand a sweep to a Ray cluster as a job; returns at once."""
    from raylottery.driver.jobs import Jobs, trackable
    from raylottery.driver.jobs import submit as hand_in
    from raylottery.errors import UsageError
    from raylottery.spec import read_sweep

    if follow and json:
        raise UsageError("--follow shows the job's lines, --json prints once: give only one")
    if max_concurrent is not None and max_concurrent < 1:
        raise UsageError(f"--max-concurrent {max_concurrent}: at least one trial must run")
    spec = read_sweep(sweep, set_)
    trackers = [word for tracker in trackable(track, store) for word in ("--track", tracker)]
    jobs = Jobs(address)
    options = [] if max_concurrent is None else ["--max-concurrent", str(max_concurrent)]
    options += [] if only is None else ["--only", only]
    options += trackers
    done = hand_in(spec, store, jobs, env=env, options=options, replace=replace)
    name, at = spec.name, f"--store {render.quoted(done.store)}"
    next_ones = [
        f"raylottery status {name} {at} --watch",
        f"raylottery logs {name} {at} --address {address}",
        f"raylottery cancel {name} {at}",
    ]
    if json:
        render.json(
            {
                "sweep": name,
                "store": done.store,
                "job": done.job,
                "rounds": len(done.plan.rounds),
                "rounds_to_do": len(done.plan.todo),
                "next": next_ones if done.job else [],
            }
        )
        return 0
    if done.job is None:
        render.lines(f"nothing to train: all {len(done.plan.rounds)} rounds of {name} are in "
                     f"{done.store}; nothing is submitted")  # fmt: skip
        return 0
    render.lines(f"{done.job}: {len(done.plan.todo)} rounds to train at {address}", *next_ones)
    if not follow:
        return 0
    try:
        return jobs.follow(done.job, render.written)
    except KeyboardInterrupt:
        render.lines("the job goes on; to end it:", next_ones[-1])
        return 130
