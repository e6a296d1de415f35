"""Whether a cluster can ever give a trial what it asks for, and how many it can run at a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from raylottery.errors import UsageError
from raylottery.spec import Arm, Sweep


TYPE = "accelerator_type:"
"""How Ray begins the resource that marks a machine by its kind of accelerator."""
MEMORY = "memory"
"""Ray's name for bytes of it."""
AHEAD = 16
"""Trials of one kind that may wait for a place: so many workers start side by side, and so many
places an autoscaling cluster is seen to lack at a time."""
A_BIT = 0.001
"""What Ray itself takes of that mark: it says where to run, and is never used up."""


def bundles(study: Sweep) -> list[dict[str, float]]:
    """A trial's request in Ray's words: for its own process, then for each that it starts."""
    resources, trainer = study.resources, study.trainer
    kind = {} if resources.accelerator is None else {TYPE + resources.accelerator: A_BIT}
    memory = {} if resources.memory is None else {MEMORY: float(resources.memory.amount)}
    own = {"CPU": resources.cpus, "GPU": resources.gpus, **memory, **kind, **resources.custom}
    if trainer.kind != "dqn":
        return [given(own)]
    learner = {"CPU": 1.0, "GPU": 0.0, **kind}
    if trainer.learners:  # the GPUs are theirs, then
        own, learner = own | {"GPU": 0.0}, learner | {"GPU": resources.gpus / trainer.learners}
    others = [{"CPU": 1.0}] * trainer.runners + [learner] * trainer.learners
    return [given(bundle) for bundle in (own, *others)]


def kind(study: Sweep) -> str:
    """What a trial asks for, as a word: equal where one trial may train lineages of both."""
    return json.dumps([study.trainer.side_by_side, bundles(study)], sort_keys=True)


def abreast(study: Sweep) -> int:
    """How many lineages a trial trains at a time."""
    if not study.trainer.side_by_side:
        return 1
    threads = max(1, math.floor(study.resources.cpus))
    return threads if study.cohort == "auto" else min(threads, study.cohort)


def given(bundle: Mapping[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in bundle.items() if amount > 0}


def request(study: Sweep) -> dict[str, float]:
    """All that a trial asks for."""
    total = Counter()
    for bundle in bundles(study):
        total.update(bundle)
    return dict(total)


def seats(study: Sweep, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many such trials the nodes hold at once, each on one node; refused if none ever fits."""
    total = room(study, nodes)
    if total == 0:
        raise UsageError(missing(request(study), nodes))
    return total


def room(study: Sweep, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many such trials the nodes hold at once, each on one node."""
    wanted = request(study)
    return sum(
        min(fit(node.get(name, 0.0), amount) for name, amount in wanted.items()) for node in nodes
    )


def fit(available: float, amount: float) -> int:
    return math.floor(available / amount + 1e-9)


@dataclass(frozen=True)
class Growth:
    """What machines may be added to a cluster; none, unless it says so."""

    kinds: tuple[Mapping[str, float], ...] = ()
    """What a machine of each kind has."""
    others: bool = False
    """Whether there are kinds of which that is not known."""

    def brings(self, study: Sweep) -> bool:
        """Whether a machine may come on which such a trial fits."""
        return self.others or room(study, self.kinds) > 0


@dataclass(frozen=True)
class Place:
    """What the trials of one arm ask for, and what a cluster has for them."""

    arm: Arm
    asks: dict[str, float]
    at_once: int
    """How many its machines hold now."""
    grows: bool
    """Whether a machine may come on which they fit."""
    refusal: str | None
    """Why no trial of it could ever start, if that is so."""

    @property
    def waits(self) -> bool:
        """Whether a machine that it fits on has to come first."""
        return not self.at_once and self.refusal is None

    @property
    def slots(self) -> int:
        """How many there are to be for the cluster to be full, or to grow."""
        return max(1, self.at_once + (AHEAD if self.grows else 0))


def places(
    arms: Iterable[Arm], machines: Sequence[Mapping[str, float]], growth: Growth
) -> list[Place]:
    """Whether, and how often at a time, each arm's trials fit."""
    found = []
    for arm in arms:
        asks, at_once = request(arm.study), room(arm.study, machines)
        grows = growth.brings(arm.study)
        fits = at_once or grows
        refusal = None if fits else missing(asks, [*machines, *growth.kinds])
        found.append(Place(arm, asks, at_once, grows, refusal))
    return found


def refuse_unplaced(found: Iterable[Place]) -> None:
    """Refuse a plan of which some arm could never start."""
    for place in found:
        if place.refusal is not None:
            raise UsageError(f"{place.refusal} (arm {place.arm.label})")


def missing(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """What is asked for, what there is, and what to do."""
    lacking = (
        name
        for name, amount in wanted.items()
        if not any(fit(node.get(name, 0.0), amount) for node in nodes)
    )
    name = next(lacking, None)
    if name is None:
        return scattered(wanted, nodes)
    most = max((node.get(name, 0.0) for node in nodes), default=0.0)
    field = field_of(name)
    if name.startswith(TYPE):
        kinds = sorted({word.removeprefix(TYPE) for node in nodes for word in kinds_of(node)})
        here = f"none here has one; there is {', '.join(kinds) or 'no accelerator at all'}"
        return (
            f"{field}: each trial asks for a machine with {name.removeprefix(TYPE)}, but {here}. "
            f"{NEVER} Ask for another (--set {field}={kinds[0] if kinds else 'null'}) {ELSEWHERE}"
        )
    less = {"CPU": "1", "GPU": "0", MEMORY: "null"}.get(name) or (f"{most:g}" if most else None)
    mend = f"--set {field}={less}" if less else "--set resources.custom={}"
    asked = in_words({name: wanted[name]})
    has = gigabytes(most) if name == MEMORY else f"{most:g}"
    return (
        f"{field}: each trial asks for {asked}, but the largest node here has {has}. {NEVER} Ask "
        f"for less ({mend}) {ELSEWHERE}"
    )


NEVER = "No trial could ever start."
ELSEWHERE = "or give --address of a cluster that has it"


def scattered(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """The same, where each thing that is asked for is somewhere, but no node has all of it."""
    nearest = max(
        nodes, key=lambda node: sum(node.get(name, 0.0) >= wanted[name] for name in wanted)
    )
    name = next(name for name in wanted if not fit(nearest.get(name, 0.0), wanted[name]))
    return (
        f"{field_of(name)}: each trial asks for {in_words(wanted)} on one machine, but no node "
        f"here has all of it: the nearest has {in_words({n: nearest.get(n, 0.0) for n in wanted})}"
        f". {NEVER} Ask for less {ELSEWHERE}"
    )


def field_of(name: str) -> str:
    """The field of a sweep file that asks for one of Ray's resources."""
    if name.startswith(TYPE):
        return "resources.accelerator"
    own = {"CPU": "resources.cpus", "GPU": "resources.gpus", MEMORY: "resources.memory"}
    return own.get(name, f"resources.custom.{name}")


def kinds_of(node: Mapping[str, float]) -> list[str]:
    return [name for name in node if name.startswith(TYPE)]


def in_words(amounts: Mapping[str, float]) -> str:
    """Amounts for people: `1 CPU, 0.5 GPU, 2 GB memory, A100`."""
    plain = [
        f"{gigabytes(amount) if name == MEMORY else f'{amount:g}'} {name}"
        for name, amount in amounts.items()
        if not name.startswith(TYPE)
    ]
    kinds = [
        name.removeprefix(TYPE) if amounts[name] else f"no {name.removeprefix(TYPE)}"
        for name in kinds_of(amounts)
    ]
    return ", ".join([*plain, *kinds])


def gigabytes(amount: float) -> str:
    return f"{amount / 1e9:.4g} GB"
