"""Whether a cluster can ever give a trial what it asks for, and how many it can run at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from raylottery.errors import UsageError
from raylottery.spec import Sweep


def bundles(study: Sweep) -> list[dict[str, float]]:
    """A trial's request in Ray's words: for its own process, then for each that it starts."""
    resources, trainer = study.resources, study.trainer
    own = {"CPU": resources.cpus, "GPU": resources.gpus}
    if trainer.kind != "dqn":
        return [given(own)]
    learner = {"CPU": 1.0, "GPU": 0.0}
    if trainer.learners:  # the GPUs are theirs, then
        own, learner = own | {"GPU": 0.0}, learner | {"GPU": resources.gpus / trainer.learners}
    others = [{"CPU": 1.0}] * trainer.runners + [learner] * trainer.learners
    return [given(bundle) for bundle in (own, *others)]


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
    wanted = request(study)
    total = sum(
        min(fit(node.get(name, 0.0), amount) for name, amount in wanted.items()) for node in nodes
    )
    if total == 0:
        raise UsageError(missing(wanted, nodes))
    return total


def fit(available: float, amount: float) -> int:
    return math.floor(available / amount + 1e-9)


def missing(wanted: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """What is asked for, what there is, and what to do."""
    name, amount = next(
        (
            (name, amount)
            for name, amount in wanted.items()
            if not any(node.get(name, 0.0) >= amount for node in nodes)
        ),
        ("CPU", wanted["CPU"]),
    )
    most = max((node.get(name, 0.0) for node in nodes), default=0.0)
    field = {"CPU": "cpus", "GPU": "gpus"}[name]
    return (
        f"resources.{field}: each trial asks for {amount:g} {name}, but the largest node here has "
        f"{most:g}. No trial could ever start. Ask for less (--set resources.{field}="
        f"{0 if name == 'GPU' else 1}) or give --address of a cluster that has it"
    )
