"""Sweeps as the store remembers them: what they are, how they stand, what they logged."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from raylottery import __version__
from raylottery.driver.live import Letter, Live, letters, live_runs
from raylottery.driver.plan import Plan, make_plan
from raylottery.errors import (
    Damaged,
    NewerStore,
    NotFoundError,
    SpecError,
    UsageError,
    did_you_mean,
)
from raylottery.spec import Lineage, Sweep, dump_sweep, parse_sweep
from raylottery.spec.keep import Keep
from raylottery.store import Store, layout
from raylottery.store.files import text_at
from raylottery.store.rounds import tell


def stored_plan(name: str, store: Store, known: frozenset[str] = frozenset()) -> Plan:
    """The plan of a sweep that was run before, from its own folder.

    Rounds that are `known` to be done are not looked for again.
    """
    refuse_unknown(name, store)
    return make_plan(stored_sweep(name, store), store, known)


def stored_sweep(name: str, store: Store) -> Sweep:
    """A sweep as it was run last; Damaged if its file is not as it was written."""
    path = layout.sweep_file(name)
    place = store.files.where(path)
    signed = False
    try:
        text = store.files.read(path).decode()
        body, mark, _ = text.rpartition(MARK)
        # The first stores were written without: their sweeps have nothing to be held against.
        signed = bool(mark)
        if signed and text != body + signature(body):
            raise ValueError("it does not have the checksum that it ends with")
        sweep = parse_sweep(text, file=place)
        if sweep.name != name:
            raise ValueError(f"it is that of {sweep.name!r}")
        return sweep
    except SpecError as error:
        problem = error.problem.splitlines()[0].rstrip(".")
        if signed:
            raise NewerStore(
                f"{place} was written by another raylottery, most likely a newer one, which this "
                f"one ({__version__}) cannot read: {problem}. pip install -U raylottery"
            ) from error
    except FileNotFoundError:
        problem = "it is missing"
    except Damaged:
        problem = "it is a folder, and a file belongs there"
    except ValueError as error:
        problem = str(error)
    raise Damaged(
        f"{place} is damaged: {problem}. Mend it with: raylottery run SWEEP.yaml --store "
        f"{shlex.quote(store.uri)}, which writes it anew and trains nothing that is done"
    )


def describe(sweep: Sweep, store: Store) -> bytes:
    """Say what a sweep is; the file that says it."""
    data = written(sweep)
    store.files.write_if_changed(layout.sweep_file(sweep.name), data)
    return data


def keep_of(sweep: Sweep, said: bytes, store: Store) -> Keep:
    """What the store says by now is kept of a sweep, whose file was `said`; Damaged if it cannot
    be read."""
    with suppress(FileNotFoundError):
        if store.files.read(layout.sweep_file(sweep.name)) == said:
            return sweep.keep
    return stored_sweep(sweep.name, store).keep


def written(sweep: Sweep) -> bytes:
    """The file that says what a sweep is."""
    text = dump_sweep(sweep)
    return (text + signature(text)).encode()


def refuse_another_study(sweep: Sweep, store: Store) -> None:
    """One name is one study: a sweep file with another trainer needs another name."""
    if not store.files.exists(layout.sweep_file(sweep.name)):
        return
    try:
        stored = stored_sweep(sweep.name, store)
    except Damaged as error:
        tell(error)  # `run` writes it anew
        return
    mine, theirs = sweep.trainer.model_dump(), stored.trainer.model_dump()
    changed = [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]
    if changed:
        field = sorted(changed)[0]
        raise UsageError(
            f"the store already has a sweep {sweep.name!r} with another trainer (trainer.{field} "
            f"was {theirs.get(field)}, is now {mine.get(field)}). Give this one another `name:`, "
            f"or say --replace: its tables are then replaced, its rounds stay"
        )


MARK = "# checksum: "


def signature(text: str) -> str:
    """How a stored sweep ends."""
    return f"{MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def refuse_unknown(name: str, store: Store) -> None:
    names = store.sweeps()
    if name not in names:
        hint = did_you_mean(name, names) or "It has none yet."
        raise NotFoundError(f"no sweep {name!r} in {store.uri}. {hint}")


@dataclass(frozen=True)
class Standing:
    """A sweep as a whole, at one moment."""

    plan: Plan
    runs: Sequence[Live]
    """Those that live, or were killed and left their file behind."""
    waiting: Sequence[Letter]
    """Jobs that were handed in and have not begun, or were refused."""

    @cached_property
    def alive(self) -> list[Live]:
        return [run for run in self.runs if run.seems_alive]

    @property
    def under_way(self) -> bool:
        """Whether anything is trained, or will be without anybody's doing."""
        return bool(self.alive) or any(not letter.refused for letter in self.waiting)

    @property
    def eta_s(self) -> float | None:
        """Seconds until all is done at the pace of the runs so far; None where none has one."""
        rate = sum(run.rate for run in self.alive)
        return len(self.plan.todo) / rate if rate else None

    def error(self, lineage: Lineage) -> str | None:
        """What a failed lineage failed with last."""
        if self.plan.state(lineage) != "failed":
            return None
        return self.plan.failures[self.plan.unfinished(lineage)[0].key][-1]["first_line"]


def standing(name: str, store: Store, before: Standing | None = None) -> Standing:
    """How a sweep stands, from the store alone; `before` is how it stood a while ago."""
    plan = stored_plan(name, store, before.plan.done if before else frozenset())
    runs = live_runs(store, name)
    begun = {run.job for run in runs}
    return Standing(plan, runs, [one for one in letters(store, name) if one.job not in begun])


@dataclass(frozen=True)
class Log:
    """What a lineage, or whoever trained it, had to say."""

    lineage: Lineage
    state: str
    text: str


def logs(name: str, store: Store, *, lineage: str = "", only_failed: bool = False) -> list[Log]:
    """The logs of a sweep's lineages; `lineage` is the beginning of an id."""
    plan = stored_plan(name, store)
    found = []
    for line in plan.lineages:
        state = plan.state(line)
        if line.id.startswith(lineage) and (state == "failed" or not only_failed):
            path = layout.log(name, line.id)
            found.append(Log(line, state, text_at(path, store.files)))
    if lineage and not any(line.id.startswith(lineage) for line in plan.lineages):
        hint = did_you_mean(lineage, [line.id for line in plan.lineages])
        raise NotFoundError(f"no lineage of {name!r} begins with {lineage!r}. {hint}")
    return found
