"""From a sweep to its arms and lineages.

An arm's id is the fingerprint of what determines it, seeds, rounds and controls left out: a sweep
that is extended renames nothing, and one arm has one id in every sweep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from raylottery.errors import SpecError
from raylottery.spec.axes import FOLLOWERS, axis_lists, combinations
from raylottery.spec.fingerprint import canonical, fingerprint
from raylottery.spec.problems import Key, Problem, dotted, explain, shown
from raylottery.spec.rounds import Round, Shared, lineage_rounds
from raylottery.spec.sweep import Sweep


ID_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One cell of the axes: everything but the seed."""

    id: str
    label: str
    """The values of the axes, for people."""
    values: dict[str, Any] = field(hash=False)
    """The values of the axes by field, without resources."""
    study: Sweep = field(hash=False)
    """The sweep with these values in place, and no axes."""

    @cached_property
    def shared(self) -> Shared:
        """What all rounds of all its lineages share."""
        return Shared.of(self.study)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """One arm with one seed: the dense round 0 and the pruned rounds after it."""

    arm: Arm
    seed: int
    id: str

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """All rounds by index, each ticket before its controls."""
        return lineage_rounds(self.arm.study, self.seed, self.arm.shared)


def expand(sweep: Sweep) -> tuple[Arm, ...]:
    """The arms of a sweep; SpecError where some cannot be meant."""
    arms, problems = try_expand(sweep)
    if problems:
        raise SpecError("\n".join(str(problem) for problem in problems))
    return arms


def lineages(sweep: Sweep) -> tuple[Lineage, ...]:
    """The lineages of a sweep, seed by seed, so that a part of them already compares all arms."""
    arms = expand(sweep)
    return tuple(
        Lineage(
            arm=arm,
            seed=seed,
            id=fingerprint({**arm.shared.pruned, "seed": seed}, ID_LENGTH),
        )
        for seed in sweep.seeds
        for arm in arms
    )


def try_expand(sweep: Sweep) -> tuple[tuple[Arm, ...], list[Problem]]:
    """The arms that can be meant, and what is wrong with the others."""
    base = {**sweep.model_dump(), "axes": {}}
    arms: list[Arm] = []
    refused: list[tuple[dict[str, Any], list[Problem]]] = []
    for values in combinations(sweep.axes):
        try:
            study = type(sweep).model_validate(_replaced(base, values))
        except ValidationError as error:
            refused.append((values, explain(error, type(sweep))))
            continue
        arms.append(_arm(study, values))
    return tuple(arms), [*_refusals(sweep, refused), *_same_arms(arms)]


def _arm(study: Sweep, given: Mapping[str, Any]) -> Arm:
    values = {
        path: _value_at(study.model_dump(mode="json"), path)
        for path in given
        if not path.startswith(FOLLOWERS)
    }
    return Arm(
        id=fingerprint(Shared.of(study).pruned, ID_LENGTH),
        label=_label(values),
        values=values,
        study=study,
    )


def _label(values: Mapping[str, Any]) -> str:
    last = {path: path.rpartition(".")[2] for path in values}
    times = Counter(last.values())
    return (
        " ".join(
            f"{last[path] if times[last[path]] == 1 else path}={_plain(value)}"
            for path, value in values.items()
        )
        or "base"
    )


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return ",".join(map(_plain, value))
    return value if isinstance(value, str) and value.isprintable() else shown(value)


def _replaced(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with the values at their dotted paths."""
    tree = dict(tree)
    for path, value in values.items():
        name, _, inner = path.partition(".")
        tree[name] = _replaced(tree[name], {inner: value}) if inner else value
    return tree


def _value_at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


def _refusals(
    sweep: Sweep, refused: list[tuple[dict[str, Any], list[Problem]]]
) -> Iterator[Problem]:
    """Each fault once: at the value that always has it, else with the first arm that has it."""
    keys = {path: key for key, path, _ in axis_lists(sweep.axes)}
    lists = {path: list(values) for _, path, values in axis_lists(sweep.axes)}
    times = Counter(
        (path, canonical(value)) for arm in combinations(sweep.axes) for path, value in arm.items()
    )
    arms: dict[tuple[Key, str], list[dict[str, Any]]] = defaultdict(list)
    for values, problems in refused:
        for problem in problems:
            arms[problem.key, problem.text].append(values)
    for (key, text), having in arms.items():
        path = dotted(key)
        label = _label(having[0])
        if path not in keys:
            yield Problem(("axes",), f"arm {label}: {path}: {text}")
            continue
        value = having[0][path]
        place = ("axes", *keys[path], lists[path].index(value))
        always = times[path, canonical(value)] == len(having)
        yield Problem(place, text if always else f"{text} (arm {label})")


def _same_arms(arms: list[Arm]) -> Iterator[Problem]:
    first: dict[str, Arm] = {}
    for arm in arms:
        other = first.setdefault(arm.id, arm)
        if other is not arm:
            yield Problem(
                ("axes",),
                f"the arms `{other.label}` and `{arm.label}` mean the same; keep one of them.",
            )
