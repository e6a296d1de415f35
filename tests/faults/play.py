"""Plays a story to its end, and says what came of it."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raylottery.cli import main
from raylottery.store import layout
from tests.e2e.conftest import FREE
from tests.faults.mischief import Mischief, Missed
from tests.faults.stage import NAME, Stage, Workshop
from tests.faults.stories import Disturbance, Story
from tests.faults.watch import Watch


ANSWER_S = 20.0
"""A command that reads answers at once; this is against hangs."""
RUN_S = 240.0
FRUITLESS = 4
"""Runs in a row that end without being disturbed and without being done."""
IDS = ("lineage", "control", "lineage_mode", "draw", "round")

STARTING = "Fatal Python error: init_import_site"
"""What Python says of an interrupt before any of our code is loaded."""


@dataclass
class Outcome:
    """What came of a story."""

    seed: int
    plan: str
    place: str
    kinds: list[str]
    missed: list[str] = field(default_factory=list)
    """Disturbances that found nothing to disturb."""
    runs: int = 0
    kills: int = 0
    lost: int = 0
    """Unfinished rounds that had to be begun again."""
    may_lose: int = 0
    again: int = 0
    """Finished rounds, undamaged, that were trained again or whose record is another."""
    differing: int = 0
    duplicate: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.problems or self.again or self.differing or self.duplicate)

    def to_json(self) -> dict:
        return asdict(self)

    def __str__(self) -> str:
        figures = (
            f"{self.runs} runs, {self.kills} kills, {self.lost} rounds lost (at most "
            f"{self.may_lose}), {self.again} finished ones trained again, {self.differing} rows "
            f"differ, {self.duplicate} twice; missed: {', '.join(self.missed) or 'nothing'}"
        )
        return "\n".join([self.plan, *self.log, figures, *self.problems])


def play(story: Story, workshop: Workshop) -> Outcome:
    """Runs the sweep, disturbs it, runs it again until it is done, and compares its tables."""
    outcome = Outcome(story.seed, str(story), story.place, story.kinds)
    began = time.monotonic()
    undisturbed = workshop.store_without_disturbance(story)
    stage = Stage(story, workshop)
    with contextlib.ExitStack() as closing:
        closing.enter_context(stage)
        stage.build()
        watch = closing.enter_context(Watch(stage.store(), stage.ear))
        mischief = Mischief(stage, watch)
        try:
            Teller(stage, mischief, watch, outcome).tell()
            compare_tables(stage, undisturbed, outcome)
        except Unfinished as end:
            outcome.problems.append(str(end))
        watch.look_again()
        outcome.lost, outcome.again = watch.counts()
        outcome.kills, outcome.may_lose = mischief.kills, mischief.may_lose
        if not mischief.outages and outcome.lost > outcome.may_lose:
            outcome.problems.append(f"{outcome.lost} unfinished rounds were lost to its kills")
    outcome.problems += stage.left_behind
    outcome.runs, outcome.log = len(stage.runs), stage.log
    outcome.seconds = time.monotonic() - began
    return outcome


class Unfinished(Exception):
    """The sweep does not end, whatever often it is run."""


@dataclass
class Teller:
    """Goes through a story's disturbances, with runs between them as they are needed."""

    stage: Stage
    mischief: Mischief
    watch: Watch
    outcome: Outcome
    looked: set[int] = field(default_factory=set)
    """Runs whose end was looked at."""
    fruitless: int = 0
    done: bool = False

    def tell(self) -> None:
        for it in self.stage.story.disturbances:
            self.await_moment(it)
            self.stage.say(f"{it.kind}, {len(self.stage.ear.committed())} rounds in")
            kills = self.mischief.kills
            try:
                self.mischief.happen(it)
            except Missed:
                self.stage.say("there is nothing to disturb")
                self.outcome.missed.append(it.kind)
            self.look_at_ends()
            if self.mischief.kills > kills:
                self.read(f"after {it.kind}")
            self.done = self.done and not self.mischief.damage
        self.finish()

    def await_moment(self, it: Disturbance) -> None:
        """Until so many rounds are committed, and a little longer."""
        while not self.done:
            if not self.stage.alive:
                self.stage.run()
            count = len(self.stage.ear.committed())
            if count >= it.after:
                break
            with self.stage.ear.news:
                self.stage.ear.news.wait(0.05)
            self.look_at_ends()
        time.sleep(it.wait_s)

    def finish(self) -> None:
        """Run again until all is done, and every run has ended."""
        deadline = time.monotonic() + RUN_S
        while not self.done or self.stage.alive:
            if not self.stage.alive:
                self.stage.run()
                deadline = time.monotonic() + RUN_S
            if time.monotonic() > deadline:
                raise Unfinished(f"a run takes longer than {RUN_S:.0f} s")
            time.sleep(0.05)
            self.look_at_ends()

    def look_at_ends(self) -> None:
        """What the runs that have ended meanwhile say of themselves."""
        ended = [run for run in self.stage.runs if not run.alive and run.pid not in self.looked]
        for run in ended:
            self.looked.add(run.pid)
            number = self.stage.runs.index(run) + 1
            said = run.said
            self.stage.say(f"run {number} ends with {run.code}")
            for line in said.splitlines()[-12:]:
                self.stage.say(f"    | {line[:160]}")
            if run.code == 0 and number > self.mischief.damage:
                self.mischief.damage = 0
            if run.pid not in self.mischief.signalled:
                fine = {0, 1, 2, 3} if self.mischief.outages else {0, 1}
                if run.code not in fine:
                    self.outcome.problems.append(f"run {number} ended with {run.code}")
                self.fruitless = 0 if run.code == 0 else self.fruitless + 1
                self.done = run.code == 0
            if "Traceback" in said and STARTING not in said:
                self.outcome.problems.append(f"run {number} shows a traceback:\n{said}")
            if self.fruitless >= FRUITLESS:
                raise Unfinished(f"{FRUITLESS} runs in a row ended undone:\n{said}")

    def read(self, when: str) -> None:
        """What only looks at the store answers at once, whatever happened to it."""
        page = self.stage.folder / "report.html"
        for words in (["status", NAME], ["compare", NAME, "--by", "prune.scope"],
                      ["report", NAME, "--to", str(page)]):  # fmt: skip
            began, said = time.monotonic(), io.StringIO()
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    code: object = main([*words, "--store", self.stage.sure_uri])
            except Exception as error:  # noqa: BLE001 (whatever it is, a user would see it)
                code = repr(error)
            seconds, told = time.monotonic() - began, said.getvalue()
            self.stage.say(f"{words[0]} ends with {code} in {seconds:.2f} s")
            if code not in self.fine_codes(words[0]) or "Traceback" in told or seconds > ANSWER_S:
                self.outcome.problems.append(
                    f"{when}, {words[0]} ends with {code} in {seconds:.1f} s: {told}"
                )

    def fine_codes(self, command: str) -> set[object]:
        """A store that was only cut off answers, or has nothing yet; one with files damaged may
        also say so."""
        if self.mischief.damage:
            return {0, 1, 2, 3}
        return {0, 1, 3} if command == "status" else {0, 3}


def compare_tables(stage: Stage, undisturbed: Path, outcome: Outcome) -> None:
    """Every column but those that tell of the run, in every table but the failures."""
    files = stage.store().files
    for name in ("rounds", "curves", "layers", "lineages"):
        path = layout.table(NAME, name)
        ours = pq.read_table(pa.BufferReader(files.read(path)))
        theirs = pq.read_table(undisturbed / path)
        free = [column for column in ours.column_names if column in FREE]
        mine, right = (table.drop_columns(free).to_pylist() for table in (ours, theirs))
        wrong = sum(a != b for a, b in zip(mine, right, strict=False))
        wrong += abs(len(mine) - len(right))
        if wrong:
            outcome.problems.append(f"{wrong} of {len(right)} rows of {name} differ")
        outcome.differing += wrong
        if name == "rounds":
            ids = [tuple(row[each] for each in IDS) for row in mine]
            outcome.duplicate += len(ids) - len(set(ids))
