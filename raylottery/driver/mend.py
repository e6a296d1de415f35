"""What `doctor` finds in a store, and how it mends that: rounds, snapshots, sweeps, tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from raylottery.driver.gather import Gatherer
from raylottery.driver.live import read_letter, read_live
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.stored import stored_sweep
from raylottery.errors import Damaged, StoreError
from raylottery.store import Store, layout
from raylottery.store.damage import damaged
from raylottery.store.local import LocalFiles
from raylottery.store.provenance import read_provenance
from raylottery.store.soundness import check
from raylottery.store.tables import read_table


TABLES = ("lineages", "rounds", "curves", "layers", "failures")


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    sound: bool
    found: str


def stored(uri: str, *, repair: bool) -> Iterator[Finding]:
    """Everything in a store that is not sound, or what is left of that once it is mended."""
    Store.existing(uri)
    store = Store.open(uri)
    yield Finding("store", True, f"{store.uri} can be written")
    findings = [*rounds(store, repair)]
    for name in store.sweeps():
        findings += sweep(name, store, repair)
    yield from findings
    if all(finding.sound for finding in findings):
        yield Finding("store", True, "every round's record and files are sound, and every table")


def rounds(store: Store, repair: bool) -> Iterator[Finding]:
    """The rounds and snapshots, whichever sweeps they belong to."""
    for problem in check(store):
        if not repair or problem.mend == "upgrade":
            yield Finding("store", False, str(problem))
        elif problem.mend == "remove":
            store.files.delete(problem.path)
            yield Finding("store", True, f"removed, for it was damaged: {problem.path}")
        elif store.set_aside(problem.key):
            yield Finding("store", True, f"set aside, to be trained again: {problem.path}")
        else:
            yield Finding("store", False, f"someone is training this round: {problem}")


def sweep(name: str, store: Store, repair: bool) -> Iterator[Finding]:
    """One sweep: its description, its tables, and what of it was set aside."""
    what = f"sweep {name}"
    try:
        for path in leftovers(name, store):
            if repair:
                store.files.delete(path)
                yield Finding(what, True, f"removed, for it was damaged: {path}")
            else:
                problem = damaged(store.files, path, "it says nothing that is known")
                yield Finding(what, False, problem)
        plan = make_plan(stored_sweep(name, store), store)
        found = [str(problem) for problem in damaged_tables(name, store)]
        if repair:
            gatherer = Gatherer(plan, store)
            gatherer.write_all()
            plan = make_plan(plan.sweep, store)
            yield from (Finding(what, True, f"written anew: {problem}") for problem in found)
        else:
            yield from (Finding(what, False, problem) for problem in found)
        yield from to_train(plan, store)
    except StoreError as error:
        yield Finding(what, False, str(error))


def to_train(plan: Plan, store: Store) -> Iterator[Finding]:
    """What was done, and has to be trained again."""
    name = plan.sweep.name
    count = sum(store.was_set_aside(round.key) for round in plan.todo)
    if count:
        where = store.files.where
        is_folder = isinstance(store.files, LocalFiles)
        file = shlex.quote(where(layout.sweep_file(name))) if is_folder else "SWEEP.yaml"
        again = f"raylottery run {file} --store {shlex.quote(where())}"
        found = f"{count} rounds were set aside and are to be trained again: {again}"
        yield Finding(f"sweep {name}", False, found)


def damaged_tables(name: str, store: Store) -> Iterator[Damaged]:
    """The files beside a sweep's description that are derived, or say who ran it."""
    for table in TABLES:
        try:
            read_table(store.files, layout.table(name, table))
        except FileNotFoundError:
            continue  # it is written when there is something to write
        except Damaged as error:
            yield error
    try:
        read_provenance(name, store.files)
    except Damaged as error:
        yield error


def leftovers(name: str, store: Store) -> Iterator[str]:
    """Paths of what runs, jobs and probes left behind and nobody can read."""
    for file in store.files.list(layout.analyses(name)):
        path = f"{layout.analyses(name)}/{file}"
        try:
            read_table(store.files, path)
        except Damaged:
            yield path
    for folder, read in (
        (layout.runs(name), lambda one: read_live(store.files, name, one)),
        (layout.letters(name), lambda one: read_letter(store, name, one)),
    ):
        for file in store.files.list(folder):
            if read(file.removesuffix(".json")) is None:
                yield f"{folder}/{file}"
