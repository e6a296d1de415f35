"""How what takes long looks while it goes: live in a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raylottery.cli.render import console, duration, lines, size


if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

    from raylottery.driver.plan import Plan
    from raylottery.driver.watch import Watcher
    from raylottery.spec import Lineage


class Tally:
    """Counts what a run has done so far."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.began = time.monotonic()
        self.done = set(plan.done)
        self.trained = 0
        self.running: set[str] = set()
        self.failed: set[str] = set()

    def add(self, key: str) -> None:
        if key not in self.done:
            self.trained += 1
        self.done.add(key)

    def end(self, lineage: Lineage, event: str) -> None:
        """A lineage ended; where it is done, so are its rounds, whoever trained them."""
        self.running.discard(lineage.id)
        if event == "failed":
            self.failed.add(lineage.id)
        if event == "done":
            self.done |= {round.key for round in lineage.rounds}

    def of(self, lineage: Lineage) -> tuple[int, int]:
        """A lineage's rounds: done, and all."""
        return sum(round.key in self.done for round in lineage.rounds), len(lineage.rounds)

    def line(self) -> str:
        """Rounds done, rate, time left."""
        total = len(self.plan.rounds)
        elapsed = time.monotonic() - self.began
        text = f"{len(self.done & self.plan.rounds.keys())}/{total} rounds"
        if self.trained:
            rate = self.trained / elapsed
            left = total - len(self.done & self.plan.rounds.keys())
            text += f", {60 * rate:.0f} a minute"
            text += f", {duration(left / rate)} left" if left else ""
        return text


class Diary:
    """A plain line for each event worth one; nothing that moves."""

    EVERY_S = 10.0

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.tally: Tally
        self.said = 0.0

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        self.tally = Tally(plan)
        self.said = time.monotonic()
        self.say(opening(plan, seats, place))

    def started(self, lineage: Lineage) -> None:
        self.tally.running.add(lineage.id)

    def trained(self, lineage: Lineage, key: str) -> None:
        self.tally.add(key)

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        self.tally.end(lineage, event)
        if event in BAD:
            self.say(f"{BAD[event]}: {told(lineage)}: {error}")
        elif event == "done":
            self.say(f"{lineage.arm.label}, seed {lineage.seed}: done. {self.tally.line()}")

    def stopping(self) -> None:
        self.say(STOPPING)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.said >= self.EVERY_S:
            self.said = now
            self.say(self.tally.line())


class Board:
    """Arms by seeds, redrawn in place."""

    def __init__(self, show: Callable[[RenderableType], None], say: Callable[[str], None]):
        self.show = show
        self.say = say
        self.tally: Tally
        self.note = ""
        self.drawn = 0.0

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        self.tally = Tally(plan)
        self.say(opening(plan, seats, place))
        self.draw()

    def started(self, lineage: Lineage) -> None:
        self.tally.running.add(lineage.id)

    def trained(self, lineage: Lineage, key: str) -> None:
        self.tally.add(key)

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        self.tally.end(lineage, event)
        if event in BAD:
            self.say(f"{BAD[event]}: {told(lineage)}: {error}")

    def stopping(self) -> None:
        self.note = STOPPING

    def tick(self) -> None:
        if time.monotonic() - self.drawn > 0.25:
            self.draw()

    def draw(self) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        self.drawn = time.monotonic()
        plan = self.tally.plan
        seeds = sorted({lineage.seed for lineage in plan.lineages})
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("arm")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right")
        rows: dict[str, dict[int, Text]] = {}
        labels = {lineage.arm.id: lineage.arm.label for lineage in plan.lineages}
        for lineage in plan.lineages:
            rows.setdefault(lineage.arm.id, {})[lineage.seed] = self.cell(lineage)
        for arm, cells in rows.items():
            table.add_row(Text(labels[arm]), *(cells.get(seed, Text("")) for seed in seeds))
        self.show(Group(table, Text(self.tally.line()), Text(self.note)))

    def cell(self, lineage: Lineage):
        from rich.text import Text

        done, total = self.tally.of(lineage)
        if lineage.id in self.tally.failed:
            return Text(f"{done}/{total} failed", style="red")
        if lineage.id in self.tally.running:
            return Text(f"{done}/{total}", style="bold yellow")
        return Text(f"{done}/{total}", style="green" if done == total else "dim")


BAD = {"failed": "failed", "again": "broke off"}
"""How events that a person may want to look into are called."""
STOPPING = (
    "stopping: the running rounds are finished first; Ctrl-C again stops at once "
    "(no finished round is lost either way)"
)


def told(lineage: Lineage) -> str:
    return f"{lineage.arm.label}, seed {lineage.seed} ({lineage.id})"


def opening(plan: Plan, seats: int, place: str) -> str:
    """What a run sets out to do."""
    lineages = sum(bool(plan.unfinished(lineage)) for lineage in plan.lineages)
    return (
        f"{plan.sweep.name}: {len(plan.todo)} rounds of {lineages} lineages to train "
        f"({len(plan.rounds) - len(plan.todo)} done), {seats} at a time, on {place}"
    )


class Count:
    """A line, now and then, of how far a count has come and how long the rest will take."""

    def __init__(self, say: Callable[[str], None], every_s: float = Diary.EVERY_S):
        self.say = say
        self.every_s = every_s
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.said >= self.every_s and done < total:
            self.said = now
            self.say(
                f"{done} of {total}, {duration((now - self.began) / done * (total - done))} left"
            )


class Lines:
    """A plain line for each file that is fetched."""

    def __init__(self, write: Callable[[str], None]):
        self.write = write

    def say(self, line: str) -> None:
        self.write(line)

    def begins(self, file: str, total: int | None) -> None:
        self.say(f"fetching {file}" + (f" ({size(total / 1e6)})" if total else ""))

    def arrived(self, count: int) -> None:
        pass


class Bars:
    """A bar for each file that is fetched."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.task: TaskID

    def say(self, line: str) -> None:
        self.progress.console.print(line, markup=False)

    def begins(self, file: str, total: int | None) -> None:
        self.task = self.progress.add_task(file, total=total)

    def arrived(self, count: int) -> None:
        self.progress.advance(self.task, count)


def bars(console: Console) -> Progress:
    """What a bar shows."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), *columns, console=console
    )


@contextmanager
def watching(*, quiet: bool) -> Generator[Watcher]:
    """A watcher that suits where the output goes: live, plain lines, or silent."""
    if quiet:
        yield Diary(say=lambda text: None)
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(console=console(), refresh_per_second=4, transient=True) as live:
            yield Board(show=live.update, say=lambda text: live.console.print(text, markup=False))
    else:
        yield Diary(say=lines)


@contextmanager
def counting(*, quiet: bool) -> Generator[Callable[[int, int], None]]:
    """What says how far a count has come: live, in plain lines, or not at all."""
    if quiet:
        yield Count(say=lambda text: None)
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(console=console(), refresh_per_second=4, transient=True) as live:
            yield Count(say=live.update, every_s=0.25)
    else:
        yield Count(say=lines)


@contextmanager
def fetching(*, quiet: bool) -> Generator[Bars | Lines]:
    """A bar for every file that is fetched, or plain lines, or nothing."""
    if quiet:
        yield Lines(write=lambda text: None)
    elif sys.stdout.isatty():
        with bars(console()) as progress:
            yield Bars(progress)
    else:
        yield Lines(write=lines)
