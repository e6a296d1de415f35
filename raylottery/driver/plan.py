"""What a sweep asks for, against what its store holds: `plan` prints it, `run` does it.

Before either, the networks of all arms that have rounds to do are looked at: what cannot be made,
or cannot be pruned as often as is asked, is refused while nothing has started; and so are data
that are not on this machine.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from raylottery.errors import UsageError
from raylottery.spec import Arm, ClassifierTrainer, Lineage, Round, Sweep, lineages
from raylottery.store import Store


if TYPE_CHECKING:
    from raylottery.trainers.survey import Survey


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every lineage of a sweep, and which of its rounds the store holds."""

    sweep: Sweep
    lineages: tuple[Lineage, ...]
    done: frozenset[str]
    """Keys of rounds that have a record."""
    failures: Mapping[str, Sequence[Mapping]]
    """Notes of what went wrong at the round a lineage has to train next, by its key."""
    again: frozenset[str] = frozenset()
    """Rounds to do that have a record: `keep` let their tickets go, and they are missed."""

    @cached_property
    def rounds(self) -> dict[str, Round]:
        """The distinct rounds of the sweep by key."""
        return {r.key: r for lineage in self.lineages for r in lineage.rounds}

    @cached_property
    def todo(self) -> tuple[Round, ...]:
        """The distinct rounds that have no record."""
        return tuple(r for key, r in self.rounds.items() if key not in self.done)

    @cached_property
    def extents(self) -> dict[str, tuple[int, ...]]:
        """For each trunk, the steps whose weights some round of the sweep rewinds to."""
        steps: dict[str, set[int]] = {}
        for round in self.rounds.values():
            if round.rewind_step is not None and round.parent is not None:
                steps.setdefault(round.trunk, set()).add(round.rewind_step)
        return {trunk: tuple(sorted(wanted)) for trunk, wanted in steps.items()}

    def unfinished(self, lineage: Lineage) -> tuple[Round, ...]:
        """The rounds a lineage still has to train, first to last."""
        return tuple(round for round in lineage.rounds if round.key not in self.done)

    def state(self, lineage: Lineage) -> str:
        """`done`, `failed`, `begun` or `to do`."""
        left = self.unfinished(lineage)
        if not left:
            return "done"
        if self.failures.get(left[0].key):
            return "failed"
        return "begun" if len(left) < len(lineage.rounds) else "to do"

    @property
    def arms_to_train(self) -> tuple[Arm, ...]:
        """The arms that have rounds to do."""
        arms = {line.arm.id: line.arm for line in self.lineages if self.unfinished(line)}
        return tuple(arms.values())

    @property
    def shared(self) -> int:
        """Trainings saved because several lineages have a round in common."""
        return sum(len(lineage.rounds) for lineage in self.lineages) - len(self.rounds)


def make_plan(sweep: Sweep, store: Store | None, known: frozenset[str] = frozenset()) -> Plan:
    """The plan of a sweep; without a store, nothing is done yet.

    Args:
        sweep: what is asked for.
        store: what may hold some of it.
        known: rounds of which it is known that the store has them: it is not asked again.
    """
    members = lineages(sweep)
    keys = {round.key for lineage in members for round in lineage.rounds}
    done = known & keys
    if store is not None:
        done |= store.done(keys - known)
    failures = {}
    if store is not None:
        for lineage in members:
            ahead = next((r.key for r in lineage.rounds if r.key not in done), None)
            if ahead is not None and ahead not in failures:
                failures[ahead] = store.failures(ahead)
    return Plan(sweep=sweep, lineages=members, done=done, failures=failures)


def inspect(plan: Plan) -> dict[str, Survey]:
    """The networks of the arms that have rounds to do, by arm; UsageError refuses the sweep."""
    from raylottery.trainers.survey import refuse_too_deep  # loads torch

    surveys: dict[str, Survey] = {}
    pruned: set[str] = set()
    found = {}
    for arm in plan.arms_to_train:
        with told_of(arm, plan.sweep):
            net = network(arm.study)
            if net not in surveys:
                surveys[net] = looked_at(arm.study)
            found[arm.id] = surveys[net]
            how = net + arm.study.prune.model_dump_json()
            if how not in pruned:
                refuse_too_deep(arm.study, found[arm.id])
                pruned.add(how)
    return found


def network(study: Sweep) -> str:
    """What a study's network follows from: arms may have many settings, and few networks."""
    read = {"model", "dataset", "examples", "nuisance"}
    fields = read if study.trainer.kind == "classifier" else None
    trainer = study.trainer.model_dump_json(include=fields)
    return trainer + study.prune.model_dump_json(include={"biases", "exclude"})


def looked_at(study: Sweep) -> Survey:
    """A study's network, and whether its data are here."""
    from raylottery.trainers.classifier.packed import refuse_missing
    from raylottery.trainers.survey import survey  # loads torch

    found = survey(study)
    if isinstance(study.trainer, ClassifierTrainer):
        refuse_missing(study.trainer.dataset, study.trainer.packed_size)
    return found


@contextmanager
def told_of(arm: Arm, sweep: Sweep) -> Generator[None]:
    """Says of a refusal which sweep and arm it is about."""
    try:
        yield
    except UsageError as error:
        of_arm = f" (arm {arm.label})" if sweep.axes else ""
        raise UsageError(f"{sweep.name}: {error}{of_arm}") from error
