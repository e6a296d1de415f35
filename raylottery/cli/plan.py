"""`raylottery plan`: what a sweep asks for, against what the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, SetOption, StoreOption


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raylottery.driver.guess import Guess
    from raylottery.driver.plan import Plan
    from raylottery.spec import Round, Sweep


def plan(
    sweep: Annotated[Path, Parameter(help="The sweep file.")],
    /,
    *,
    store: StoreOption = DEFAULT_STORE,
    address: Annotated[
        str | None,
        Parameter(
            help="A running Ray cluster, as HOST:PORT: shows whether its machines can ever run "
            "each arm, and how many at a time."
        ),
    ] = None,
    set_: SetOption = (),
    json: JsonOption = False,
) -> None:
    """Show what a sweep would train, and what of it is done; starts nothing."""
    from raylottery.driver.cluster import connected
    from raylottery.driver.guess import guess
    from raylottery.driver.keep import with_missed
    from raylottery.driver.machines import growth, machines
    from raylottery.driver.plan import inspect, make_plan
    from raylottery.driver.resources import in_words, places, refuse_unplaced, request
    from raylottery.driver.stored import refuse_another_study
    from raylottery.spec import read_sweep
    from raylottery.store import Store

    spec = read_sweep(sweep, set_)
    opened = Store.find(store)
    if opened is not None:
        refuse_another_study(spec, opened)
    planned = make_plan(spec, opened)
    if opened is not None:
        planned = with_missed(planned, opened)
    guessed = guess(planned, opened, inspect(planned))
    arms = {line.arm.id: line.arm for line in planned.lineages}
    asked = list(dict.fromkeys(in_words(request(arm.study)) for arm in arms.values()))
    sections = [arm.study.resources.model_dump(mode="json") for arm in arms.values()]
    found = None
    if address is not None:
        with connected(address):
            found = places(planned.arms_to_train, machines(), growth())
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
                "rounds_again": len(planned.again),
                "updates_to_do": updates(planned.todo),
                "updates": updates(planned.rounds.values()),
                "updates_of_controls": updates(controls(planned)),
                "resources": [r for i, r in enumerate(sections) if r not in sections[:i]],
                "cohort": spec.cohort,
                "places": None
                if found is None
                else [
                    {
                        "arm": place.arm.id,
                        "arm_label": place.arm.label,
                        "asks": place.asks,
                        "at_once": place.at_once,
                        "waits_for_growth": place.waits,
                        "refusal": place.refusal,
                    }
                    for place in found
                ],
                "keep": spec.keep.model_dump(),
                "megabytes": guessed.megabytes,
                "megabytes_peak": guessed.megabytes_peak,
                "worker_seconds": guessed.worker_seconds,
            }
        )
        refuse_unplaced(found or ())
        return
    render.grid(planned)
    render.lines(
        f"{len(planned.lineages)} lineages, {len(planned.rounds)} distinct rounds "
        f"({planned.shared} more are shared), {len(planned.todo)} to train",
        f"each trial: {' or '.join(asked)}",
        *cohorts([arm.study for arm in arms.values()]),
        *for_controls(planned),
        *again_for(len(planned.again)),
        f"will add about {render.size(guessed.megabytes)} to {store}{on_the_way(guessed, spec)}",
        "time: no round of this sweep is measured yet"
        if guessed.worker_seconds is None
        else f"time: about {render.duration(guessed.worker_seconds)} of worker time, "
        f"from this sweep's own rounds",
    )
    if found:
        render.lines("", f"on the Ray cluster at {address}:")
        render.table(
            [
                {
                    "arm": place.arm.label,
                    "each trial asks for": in_words(place.asks),
                    "at a time": place.at_once
                    or ("none yet: the cluster grows" if place.waits else "never"),
                }
                for place in found
            ]
        )
        refuse_unplaced(found)


def updates(rounds: Iterable[Round]) -> int:
    """What rounds train, all together."""
    return sum(round.end - round.clock for round in rounds)


def controls(plan: Plan) -> list[Round]:
    """The distinct rounds of a sweep that train controls."""
    return [round for round in plan.rounds.values() if round.control != "ticket"]


def for_controls(plan: Plan) -> list[str]:
    """What of the sweep's training goes to controls, if it has some."""
    spent, whole = updates(controls(plan)), updates(plan.rounds.values())
    if not spent:
        return []
    return [f"controls: {100 * spent / whole:.0f} % of all training, {spent} of {whole} updates"]


def cohorts(studies: Sequence[Sweep]) -> list[str]:
    """How lineages are grouped, where a trial may train several of them."""
    from raylottery.driver.resources import abreast

    several = [study for study in studies if study.trainer.side_by_side and study.cohort != 1]
    if not several:
        return []
    at_once = " or ".join(str(count) for count in sorted({*map(abreast, several)}))
    size = several[0].cohort
    most = "an even share of the lineages that are ready" if size == "auto" else f"{size} lineages"
    return [f"each trial trains {most}, {at_once} at a time"]


def again_for(count: int) -> list[str]:
    """Why finished rounds are among those to train, if some are."""
    if not count:
        return []
    rounds = "round that was finished is" if count == 1 else "rounds that were finished are"
    return [f"{count} {rounds} trained again: `keep` let go of a ticket that is needed now"]


def on_the_way(guessed: Guess, spec: Sweep) -> str:
    """What a sweep's `keep` does to its size."""
    if spec.keep.what == "all":
        return ""
    return f", at most {render.size(guessed.megabytes_peak)} on the way (keep: {spec.keep})"
