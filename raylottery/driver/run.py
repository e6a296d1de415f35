"""`run`: a plan minus what is done, on Ray or in this process; safe to repeat.

Rounds that turn out to be damaged when the tables are made of them are trained again at once.

An interrupt once (Ctrl-C) lets every running round finish, starts nothing more and writes the
tables; a second one stops at once. `raylottery cancel` does the same through the store. Either way
no finished round is lost, and the next run goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from raylottery.driver.cluster import connected
from raylottery.driver.cohort import Cohort, Shares
from raylottery.driver.conductor import Conductor
from raylottery.driver.inline import run_inline
from raylottery.driver.keep import with_missed
from raylottery.driver.live import as_a_job
from raylottery.driver.machines import growth, machines, refuse_blind_machines
from raylottery.driver.plan import Plan, inspect, make_plan
from raylottery.driver.resources import (
    Growth,
    abreast,
    in_words,
    kind,
    places,
    refuse_unplaced,
    seats,
)
from raylottery.driver.stored import refuse_another_study
from raylottery.driver.watch import Result, Watcher
from raylottery.spec import Lineage, Sweep
from raylottery.store import Store
from raylottery.trainers import gpus


def run(
    sweep: Sweep,
    store: Store,
    watcher: Watcher,
    *,
    address: str | None = None,
    inline: bool = False,
    max_concurrent: int | None = None,
    only_failed: bool = False,
    replace: bool = False,
) -> Result:
    """Train what the store does not have of a sweep, and write the sweep's tables."""
    begun = time.monotonic()
    with as_a_job(store, sweep.name):
        if not replace:
            refuse_another_study(sweep, store)
        plan = with_missed(make_plan(sweep, store), store)
        only = [line.id for line in plan.lineages if plan.state(line) == "failed"]
        conductor = Conductor(plan, store, watcher, only if only_failed else None)
        train = partial(
            conduct, conductor, address=address, inline=inline, max_concurrent=max_concurrent
        )
        with conductor.restored:
            train(plan)
            for turn in range(TURNS):
                lost, trained = conductor.gatherer.lost, conductor.ledger.rounds
                if not lost or only_failed or conductor.interrupts:
                    break
                plan = with_missed(make_plan(sweep, store), store)
                again = [
                    line.id for line in plan.lineages if any(r.key in lost for r in line.rounds)
                ]
                conductor.turn_to(plan, again)
                train(plan)
                lost = conductor.gatherer.lost
                idle = conductor.ledger.rounds == trained and not conductor.failures
                if lost and not conductor.interrupts and (idle or turn == TURNS - 1):
                    raise next(iter(lost.values()))
            return conductor.result(sweep, begun)


TURNS = 5
"""So often rounds that are lost are trained again at once: then the disk is."""


def conduct(
    conductor: Conductor,
    plan: Plan,
    *,
    address: str | None,
    inline: bool,
    max_concurrent: int | None,
) -> None:
    """Train what the conductor's queue has of a plan, and write the tables."""
    sweep, store = plan.sweep, conductor.store
    queue, watcher = conductor.queue, conductor.watcher
    if queue.drained:
        conductor.close()
        return
    inspect(plan)

    def cohort_of(lineages: Sequence[Lineage]) -> Cohort:
        trunks = [lineage.rounds[0].key for lineage in lineages]
        return Cohort(
            sweep=sweep.name,
            store=store.uri,
            run=conductor.run,
            lineages=lineages,
            extents={trunk: plan.extents.get(trunk, ()) for trunk in trunks},
        )

    hooks = (conductor.on_signal, conductor.on_tick)
    asked = [arm.study for arm in plan.arms_to_train]
    if inline:
        for study in asked:
            seats(study, [this_machine()])
        conductor.open()
        kept = f", which keeps no timeout of {sweep.timeout}" if sweep.timeout else ""
        watcher.opened(plan, min(map(abreast, asked)), f"this process{kept}")
        # RLlib is no engine without a Ray around it, be it one that nobody else uses.
        stands_on_ray = any(study.trainer.engine == "rllib" for study in asked)
        around = connected(None) if stands_on_ray else nullcontext()
        with around, conductor.interruptible("this process"):
            shares = Shares({kind(study): 1 for study in asked})
            run_inline(queue, shares, cohort_of, *hooks)
    else:
        with connected(address):
            grows = growth() if address else Growth()
            found = places(plan.arms_to_train, machines(), grows)
            refuse_unplaced(found)
            conductor.open()
            if address:
                refuse_blind_machines(store, sweep.name)
            place = where(address)
            most = max_concurrent or math.inf
            at_once = min(min(max(1, p.at_once), most) * abreast(p.arm.study) for p in found)
            late = next((each.asks for each in found if each.waits), None)
            note = f", which must grow first: none has {in_words(late)}" if late else ""
            watcher.opened(plan, int(at_once), place + note)
            shares = Shares({kind(p.arm.study): int(min(p.slots, most)) for p in found})
            # It loads Ray, once Ray's environment is set.
            from raylottery.driver.tune import run_tune

            with conductor.interruptible(place):
                run_tune(queue, shares, cohort_of, sweep.timeout, max_concurrent, *hooks)


def where(address: str | None) -> str:
    """What a run trains on, for people."""
    if address is None:
        return "a local Ray"
    return "this machine's Ray cluster" if address == "auto" else f"the Ray cluster at {address}"


def this_machine() -> dict[str, float]:
    """What an inline run has: for whatever is asked, but only the GPUs that torch sees."""
    return {"CPU": 1e9, "memory": 1e18, "GPU": float(len(gpus()))}
