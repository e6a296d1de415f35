"""`raylottery doctor`: is everything here that a sweep needs?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import progress, render
from raylottery.cli.options import JsonOption


def doctor(
    *,
    store: Annotated[
        str | None, Parameter(help="Also check every round, snapshot and table of this store.")
    ] = None,
    repair: Annotated[
        bool,
        Parameter(
            help="With --store: set damaged rounds aside, remove other damaged files, make all "
            "tables anew from the rounds. Trains nothing."
        ),
    ] = False,
    fetch: Annotated[
        str | None,
        Parameter(
            help="Only fetch a data set, once for all trials: cifar10, cifar100, mnist or "
            "fashion-mnist."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="With --fetch: a folder with the publisher's files, as file:///data/mirror.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Check versions, GPUs, Ray, data sets and a store."""
    from raylottery.driver.doctor import examine
    from raylottery.errors import UsageError

    if repair and store is None:
        raise UsageError("--repair mends a store: say which, as --store results")
    if fetch is not None:
        if store is not None:
            raise UsageError("--fetch fetches and --store checks: give only one")
        return bring(fetch, from_, json=json)
    if from_ is not None:
        raise UsageError("--from says where to fetch from: say also what, as --fetch cifar10")
    findings = examine(store, repair=repair)
    if json:
        render.json([finding._asdict() for finding in findings])
    else:
        render.findings(findings)
    return 0 if all(finding.sound for finding in findings) else 1


def bring(dataset: str, mirror: str | None, *, json: bool) -> int:
    """Fetch a data set."""
    from raylottery.driver.doctor import fetch

    with progress.fetching(quiet=json) as watcher:
        done = fetch(dataset, mirror, watcher)
    if json:
        render.json(done._asdict())
    elif done.fetched:
        render.lines(f"{dataset} is in {done.folder}")
    else:
        render.lines(f"{dataset} is there already, in {done.folder}")
    return 0
