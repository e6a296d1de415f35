"""Gets one round's ticket out of a store, for use without raylottery."""

from __future__ import annotations

import json

from raylottery.driver.stored import stored_plan
from raylottery.errors import NotFoundError, did_you_mean
from raylottery.spec import Lineage, Round, Sweep
from raylottery.store import Record, Store


def find_round(
    name: str, lineage: str, index: int, control: str, store: Store
) -> tuple[Lineage, Round]:
    """The round of a stored sweep; `lineage` may be shortened while it stays unique."""
    plan = stored_plan(name, store)
    matches = [line for line in plan.lineages if line.id.startswith(lineage)]
    if len(matches) != 1:
        what = "no lineage begins" if not matches else f"{len(matches)} lineages begin"
        raise NotFoundError(
            f"{what} with {lineage!r} in sweep {name!r}. `raylottery status {name} --json` lists "
            f"them all"
        )
    return matches[0], pick(matches[0], index, control)


def pick(lineage: Lineage, index: int, control: str) -> Round:
    """One round of a lineage."""
    found = [r for r in lineage.rounds if control in (r.name, r.control)]
    if not found:
        hint = did_you_mean(control, sorted({r.name for r in lineage.rounds}))
        raise NotFoundError(f"lineage {lineage.id} has no control {control!r}. {hint}")
    # One that has the whole name before others of its kind.
    found.sort(key=lambda r: r.name != control)
    for round in found:
        if round.index == index:
            return round
    rounds = sorted({r.index for r in found})
    every = rounds == [*range(rounds[0], rounds[-1] + 1)]
    has = f"{rounds[0]} to {rounds[-1]}" if every else ", ".join(map(str, rounds))
    raise NotFoundError(f"lineage {lineage.id} has no round {index} for {control!r}: it has {has}")


def find_trained(
    name: str, lineage: str, index: int, control: str, store: Store
) -> tuple[Sweep, Round, Record]:
    """A finished round of a stored sweep, and the study of its network."""
    line, round = find_round(name, lineage, index, control, store)
    record = store.record(round.key)
    if record is None:
        raise NotFoundError(
            f"round {index} ({control}) of lineage {lineage} is not trained yet: "
            f"run the sweep again to get it"
        )
    study = line.arm.study
    if round.is_narrowed:
        from raylottery.trainers.narrow import narrowed

        study = narrowed(study, record.result["kept"])
    return study, round, record


def ticket_file(name: str, lineage: str, index: int, control: str, store: Store) -> bytes:
    """A safetensors file with the ticket's `start.*` weights, its `mask.*`, the `trained.*` ones
    and, where a stop rule ended the search, the `stopped.*` ones.

    Every name after the first dot is the network's own parameter name.
    """
    study, round, record = find_trained(name, lineage, index, control, store)
    from raylottery.lineage import started
    from raylottery.store.tickets import pack, read_ticket
    from raylottery.trainers import make_trainer

    stored = read_ticket(record, store)
    start = started(round, stored["mask"], make_trainer(study, gpu=False), store)
    about = {
        "sweep": name,
        "key": round.key,
        "round": str(round.index),
        "control": round.name,
        "seed": str(round.seed),
        "density": repr(record.result["density"]),
        "metric": record.result["metric"],
        "score": repr(record.result["score"]),
        "spec": json.dumps(round.spec, sort_keys=True),
    }
    found = {name: stored[name] for name in ("mask", "trained", "stopped") if name in stored}
    return pack({"start": start, **found}, about)
