"""`raylottery run`: train what is not done of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import progress, render
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


def run(
    sweep: Annotated[Path, Parameter(help="The sweep file.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    address: Annotated[
        str | None, Parameter(help="A running Ray cluster, as HOST:PORT; without it, a local Ray.")
    ] = None,
    set_: SetOption = (),
    max_concurrent: MostOption = None,
    inline: Annotated[bool, Parameter(help="Train in this process, without Ray.")] = False,
    only: OnlyOption = None,
    replace: ReplaceOption = False,
    track: TrackOption = (),
    json: JsonOption = False,
) -> int:
    """Train what is not done of a sweep; safe to repeat."""
    from raylottery.driver.run import run as conduct
    from raylottery.driver.track import Tracking, open_trackers
    from raylottery.errors import UsageError
    from raylottery.spec import read_sweep
    from raylottery.store import Store

    if max_concurrent is not None and max_concurrent < 1:
        raise UsageError(f"--max-concurrent {max_concurrent}: at least one trial must run")
    if inline and address is not None:
        raise UsageError("--inline trains in this process, --address on a cluster: give only one")
    spec = read_sweep(sweep, set_)
    opened = Store.open(store)
    trackers = open_trackers(track, spec.name, opened)
    with progress.watching(quiet=json) as watcher:
        tracking = Tracking(watcher, trackers, opened)
        result = conduct(
            spec,
            opened,
            tracking,
            address=address,
            inline=inline,
            max_concurrent=max_concurrent,
            only_failed=only == "failed",
            replace=replace,
        )
        tracked = tracking.finish(result.plan)
    ledger = result.ledger
    if json:
        render.json(
            {
                "sweep": spec.name,
                "store": store,
                "rounds": len(result.plan.rounds),
                "rounds_trained": len(ledger.trained),
                "rounds_to_do": len(result.plan.todo),
                "failed": result.failures,
                "interrupted": result.interrupted,
                "seconds": result.seconds,
                "startup_seconds": ledger.startup_s,
                "import_seconds": ledger.import_s,
                "worker_seconds": ledger.worker_s,
                "training_seconds": ledger.training_s,
                "overhead_s": ledger.overhead_s,
                "tracked": [
                    {"tracker": feed.tracker.name, "rounds": feed.count, "error": feed.error}
                    for feed in tracked
                ],
            }
        )
    else:
        words = [str(sweep), "--store", store]
        words += [word for change in set_ for word in ("--set", change)]
        words += ["--address", address] if address is not None else []
        words += ["--inline"] if inline else []
        render.finished(result, store, words)
        for feed in tracked:
            render.lines(f"{feed.tracker.name} has {feed.count} rounds: {feed.tracker.look}")
            if feed.error is not None:
                render.lines(
                    f"{feed.tracker.name} did not take the others: {feed.error}. Run the same "
                    f"command again when it does; no finished round is trained again"
                )
    return result.exit_code
