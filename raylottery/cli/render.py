"""What writes to the terminal: tables, plain lines, JSON. What moves there is in `progress`."""

from __future__ import annotations

import io
import json as jsonlib
import logging
import shlex
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from rich.console import Console

    from raylottery.analysis import Comparison, Finding, Summary
    from raylottery.analysis.stats import Estimate
    from raylottery.driver.jobs import Job
    from raylottery.driver.live import Live
    from raylottery.driver.plan import Plan
    from raylottery.driver.play import Played
    from raylottery.driver.stored import Standing
    from raylottery.driver.watch import Result
    from raylottery.spec import Lineage


PIPE_WIDTH = 100_000
"""Columns for tables that no terminal wraps, so that a pipe never cuts them."""


def spell_out_what_streams_cannot_write() -> None:
    """An arm's label or a path that the encoding lacks is escaped, and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def lines(*texts: str) -> None:
    for text in texts:
        console().print(text, markup=False, soft_wrap=True)


def error(message: str) -> None:
    console(stderr=True).print(f"raylottery: {message}", markup=False, soft_wrap=True)


class Warned(logging.Handler):
    """Shows the first warnings of a command, and counts the rest."""

    MOST = 5

    def __init__(self):
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if self.count <= self.MOST:
            error(f"warning: {record.getMessage()}")


@contextmanager
def warnings() -> Generator[None]:
    """What the library warns of meanwhile, in a few lines on stderr."""
    logger = logging.getLogger("raylottery")
    handler = Warned()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        if handler.count > handler.MOST:
            error(f"warning: and {handler.count - handler.MOST} more")


def json(value: Any) -> None:
    written(jsonlib.dumps(value, indent=2, allow_nan=False) + "\n")


def table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Rows of plain values under their names."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2))
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        drawn.add_row(*(Text(cell(value)) for value in row.values()))
    console().print(drawn)


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def grid(plan: Plan) -> None:
    """Arms by seeds: how many rounds of each lineage are done."""
    seeds = sorted({lineage.seed for lineage in plan.lineages})
    arms: dict[str, dict[str, Any]] = {}
    for lineage in plan.lineages:
        row = arms.setdefault(lineage.arm.id, {"arm": lineage.arm.label})
        row[f"seed {lineage.seed}"] = progress(plan, lineage)
    table([{"arm": row["arm"], **{f"seed {s}": row.get(f"seed {s}") for s in seeds}}
           for row in arms.values()])  # fmt: skip


def progress(plan: Plan, lineage: Lineage) -> str:
    total = len(lineage.rounds)
    done = total - len(plan.unfinished(lineage))
    state = plan.state(lineage)
    return f"{done}/{total}" + (" failed" if state == "failed" else "")


def standing(now: Standing, jobs: Sequence[Job], store: str) -> None:
    """A sweep as a whole: its grid, its lineages, what runs and what went wrong."""
    plan = now.plan
    grid(plan)
    table(
        [
            {
                "lineage": line.id,
                "arm": line.arm.label,
                "seed": line.seed,
                "is": plan.state(line),
            }
            for line in plan.lineages
        ]
    )
    errors = {line.id: now.error(line) for line in plan.lineages}
    failed = {id: error for id, error in errors.items() if error is not None}
    lines(
        stand(now),
        *(runs(run) for run in now.runs),
        *(
            f"job {one.job} ended at once: {one.refused}"
            if one.refused
            else f"job {one.job} was submitted to {one.address} at {one.at} and has not begun"
            for one in now.waiting
        ),
        *(f"Ray job {job.id}: {job.status}. {job.message}" for job in jobs),
        *(f"{lineage} failed: {error}" for lineage, error in failed.items()),
        *(
            [f"again: raylottery run SWEEP.yaml --store {quoted(store)} --only failed"]
            if failed
            else []
        ),
    )


def stand(now: Standing) -> str:
    """How far a sweep is, in a line."""
    plan = now.plan
    done = len(plan.rounds) - len(plan.todo)
    left = f", about {duration(now.eta_s)} left" if now.eta_s else ""
    return f"{plan.sweep.name}: {done} of {len(plan.rounds)} distinct rounds done{left}"


def runs(run: Live) -> str:
    """A run that is under way, or that was killed."""
    who = f"run {run.run} on {run.holder.host}, {run.place}"
    if run.seems_alive:
        job = f", job {run.job}" if run.job else ""
        return f"{who}{job}: {run.trained} rounds since {run.began}"
    return f"{who}: last heard of at {run.at}, after {run.trained} rounds; it may be gone"


def redrawn() -> bool:
    """Clear a terminal for a fresh picture; False where the output is none."""
    if sys.stdout.isatty():
        console().clear()
    return sys.stdout.isatty()


def section(title: str, text: str) -> None:
    """A text as it is, under a title."""
    lines(f"== {title}")
    written(text if text.endswith("\n") or not text else f"{text}\n")


def quoted(word: str) -> str:
    """A word as a shell wants it."""
    return shlex.quote(word)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def size(megabytes: float) -> str:
    if megabytes < 1:
        return f"{1000 * megabytes:.0f} kB"
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def scores(found: Summary, title: str) -> None:
    """Arms and their controls by density: the mean and half the width of its 95 % interval."""
    headings = [f"at {density:.3g}" for density in found.densities]
    rows = [
        {
            "arm": row.arm_label,
            "trained from": row.control,
            "seeds": row.seeds,
            **{
                heading: estimate(cell, row.stored_as)
                for heading, cell in zip(headings, row.cells, strict=True)
            },
        }
        for row in found.rows
    ]
    table(rows, title=title)


def estimate(found: Estimate | None, stored_as: str) -> str:
    """A mean with its interval; accuracy in percent."""
    if found is None:
        return ""
    factor = 100 if stored_as == "accuracy" else 1
    mean = f"{factor * found.mean:.1f}"
    return (
        mean if found.high is None else f"{mean} \u00b1 {factor * (found.high - found.mean):.1f}"
    )


def comparison(found: Comparison) -> None:
    """Effects by density, then what a person would say of them."""
    from raylottery.analysis.export import comparison_cells

    table(comparison_cells(found))
    lines("", *found.sentences, *(f"Note: {note}" for note in found.notes))


def references(found: Sequence[Finding]) -> None:
    """Published results beside ours, then what each is and why the verdict is as it is."""
    from raylottery.analysis.export import finding_cells

    source = found[0].reference
    lines(f"{source.name}: {source.paper}", "")
    table([finding_cells(finding) for finding in found])
    lines("")
    for finding in found:
        claim = finding.claim
        said = f"{claim.id}: {claim.says} ({claim.place}; {claim.known})."
        compared = finding.verdict != "not comparable"
        lines(f"{said} {finding.verdict.capitalize()}." if compared else said)
    for why in dict.fromkeys((finding.verdict, finding.why) for finding in found if finding.why):
        ids = [finding.claim.id for finding in found if (finding.verdict, finding.why) == why]
        lines(f"{why[0].capitalize()} ({', '.join(ids)}): {why[1]}.")
    lines(f"Tolerances: {source.tolerances}.")
    if source.remark:
        lines(f"Note: {source.remark}.")


def written(text: str) -> None:
    """A text whose lines are as they are to be."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        console().on_broken_pipe()  # as for all other output: the reader has seen enough


def played(found: Played) -> None:
    """Episodes one by one, then their mean beside the recorded score."""
    table(
        [
            {
                "episode": number,
                "seed": episode.seed,
                "return": plain(episode.total),
                "steps": episode.steps,
            }
            for number, episode in enumerate(found.episodes, start=1)
        ]
    )
    mean, score, by = f"mean: {found.mean:.10g}", f"{found.score:.10g}", found.record
    if not found.whole:
        lines(f"{mean}; the recorded score, {score}, is the mean of all {found.of} episodes")
    elif found.mean == found.score:
        lines(f"{mean}, the same as recorded")
    else:
        lines(
            f"{mean}; it differs from the recorded score, {score}, which raylottery {by.version} "
            f"took on {by.host}: another type of CPU or other versions may change the last bits"
        )


def plain(value: float) -> float:
    """A whole number as one, which a table does not round."""
    return int(value) if float(value).is_integer() else value


def findings(found: Sequence[Any]) -> None:
    for what, sound, text in found:
        lines(f"{'ok   ' if sound else 'WRONG'}  {what}: {text}")


def finished(result: Result, store: str, words: Sequence[str]) -> None:
    """What a run came to, and what to do next; `words` are those it was started with."""
    plan, ledger, name = result.plan, result.ledger, result.plan.sweep.name
    if ledger.trained:
        lines(
            f"trained {len(ledger.trained)} rounds in {duration(result.seconds)}: "
            f"{ledger.startup_s:.1f} s until the first worker was up, and each worker's first "
            f"import of torch {' and '.join(f'{s:.1f}' for s in ledger.import_s.values())} s",
            f"after that {ledger.overhead_s:.2f} s a round of worker time were spent outside "
            f"training, of {duration(ledger.worker_s)} in all",
        )
    for first_line in dict.fromkeys(result.failures.values()):
        failed = [id for id, said in result.failures.items() if said == first_line]
        lines(f"failed: {', '.join(failed)}: {first_line}")
    if result.failures:
        lines(
            f"try only those again: raylottery run {shlex.join(words)} --only failed",
            f"the logs are in {store}/sweeps/{name}/logs",
        )
    if result.missing:
        lines(
            f"{result.missing} rounds were trained and are not in {store}: "
            f"is it one folder for all machines?"
        )
    if result.interrupted:
        lines(f"interrupted: {len(plan.todo)} rounds are left; run the same command to go on")
        return
    if not ledger.trained and not result.failures and plan.todo:
        lines(
            f"no lineage of {name} has failed, and {len(plan.todo)} rounds are left: "
            f"run it without --only"
        )
    elif not ledger.trained and not result.failures:
        lines(f"nothing to train: all {len(plan.rounds)} rounds of {name} are in {store}")
    if not plan.todo:
        from raylottery.analysis import load, summary

        scores(summary(load(name, store=store)), f"{name}: mean score of the seeds, by density")
