"""What a sweep asks for, against what its store holds: `plan` prints it, `run` does it.

Before either, the networks of all arms that have rounds to do are looked at: what cannot be made,
or cannot be pruned as often as is asked, is refused while nothing has started; and so are data
that are not on this machine.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import median
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
    fields = {"model", "dataset", "examples"} if study.trainer.kind == "classifier" else None
    trainer = study.trainer.model_dump_json(include=fields)
    return trainer + study.prune.model_dump_json(include={"biases", "exclude"})


def looked_at(study: Sweep) -> Survey:
    """A study's network, and whether its data are here."""
    from raylottery.trainers.classifier.packed import refuse_missing
    from raylottery.trainers.survey import survey  # loads torch

    found = survey(study)
    if isinstance(study.trainer, ClassifierTrainer):
        refuse_missing(study.trainer.dataset, study.trainer.size)
    return found


@contextmanager
def told_of(arm: Arm, sweep: Sweep) -> Generator[None]:
    """Says of a refusal which sweep and arm it is about."""
    try:
        yield
    except UsageError as error:
        of_arm = f" (arm {arm.label})" if sweep.axes else ""
        raise UsageError(f"{sweep.name}: {error}{of_arm}") from error


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the rounds to do will take."""

    megabytes: float
    worker_seconds: float | None
    """None where the store holds no training of this sweep to go by."""


def guess(plan: Plan, store: Store | None, surveys: Mapping[str, Survey]) -> Guess:
    """Size from the networks' parameters, time from what this sweep's own rounds took so far."""
    parameters = {
        round.key: surveys[lineage.arm.id].total_params
        for lineage in plan.lineages
        for round in plan.unfinished(lineage)
    }
    copies = {  # float32 weights and a byte of mask an entry; of a trunk, its snapshots too
        round.key: 5 if round.parent else 5 + 4 * (1 + len(plan.extents.get(round.key, ())))
        for round in plan.todo
    }
    stored = sum(parameters[key] * copies[key] for key in copies)
    measured = sample(plan, store) if store is not None else []
    seconds = None
    if measured:
        updates = sum(round.end - round.clock for round in plan.todo)
        seconds = updates * median(measured)
    return Guess(megabytes=stored / 1e6, worker_seconds=seconds)


def sample(plan: Plan, store: Store, most: int = 20) -> list[float]:
    """Seconds an update took in some of the sweep's finished rounds."""
    done = sorted(plan.done)
    chosen = done[:: max(1, math.ceil(len(done) / most))]
    records = [store.record(key) for key in chosen]
    return [
        record.seconds / steps
        for record in records
        if record is not None and (steps := record.result["steps"])  # a ticket may not be trained
    ]
