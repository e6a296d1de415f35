"""What a report has to say of what is not there: rounds, seeds, arms, tables, answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from raylottery.analysis.frame import Frame
from raylottery.analysis.matched import ROUND
from raylottery.spec import Control
from raylottery.store import layout


if TYPE_CHECKING:
    from raylottery.analysis.report.answers import Answers
    from raylottery.analysis.report.tables import FailureTable


LATE = ("curves", "layers", "failures")
"""Tables that are written when a sweep ends."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How much of the plan is done: rounds by lineage, controls included."""

    lineages: pd.DataFrame
    """one row a lineage: arm, arm_label, seed, `planned`, `done`"""

    @property
    def planned(self) -> int:
        return int(self.lineages["planned"].sum())

    @property
    def done(self) -> int:
        return int(self.lineages["done"].sum())

    @property
    def unfinished(self) -> int:
        """Lineages that lack a round."""
        return int((self.lineages["done"] < self.lineages["planned"]).sum())

    @property
    def arms(self) -> int:
        return self.lineages["arm"].nunique()

    @property
    def seeds(self) -> int:
        return self.lineages["seed"].nunique()


def progress(frame: Frame) -> Progress:
    """Counts what is planned, from the specs, and what is done, from the rounds."""
    lineages = frame.lineages.drop_duplicates("lineage")
    lineages = lineages[["sweep", "arm", "arm_label", "lineage", "seed", "spec"]]
    planned = {spec: _planned(json.loads(spec)) for spec in lineages["spec"].unique()}
    rounds = frame.read("rounds", ROUND).to_pandas().drop_duplicates(ROUND)
    done = rounds["lineage"].astype(str).value_counts()
    return Progress(
        lineages=lineages.assign(
            planned=lineages["spec"].map(planned),
            done=lineages["lineage"].map(done).fillna(0).astype(int),
        )
        .drop(columns="spec")
        .reset_index(drop=True)
    )


def _planned(spec: dict) -> int:
    """The rounds of a lineage: the dense one, and in each later one a ticket and its controls."""
    fraction, rounds = spec["prune"]["fraction"], spec["prune"]["rounds"]
    controls = map(Control.model_validate, spec.get("controls", ()))
    return 1 + rounds + sum(len(c.rounds(fraction, rounds)) * c.draws for c in controls)


def missing(
    frame: Frame, done: Progress, answers: Answers, failures: FailureTable
) -> tuple[str, ...]:
    """One sentence for each thing that a reader would look for and not find."""
    return tuple(_missing(frame, done, answers, failures))


def _missing(
    frame: Frame, done: Progress, answers: Answers, failures: FailureTable
) -> Iterable[str]:
    if done.unfinished:
        yield (
            f"{count(done.unfinished, 'lineage')} of {len(done.lineages):,} "
            f"{'is' if done.unfinished == 1 else 'are'} not finished: "
            f"{done.planned - done.done:,} of {done.planned:,} rounds are missing. "
            "A run of the sweep trains only those."
        )
    if failures.lineages:
        yield (
            f"{count(failures.lineages, 'lineage')} failed and did not finish since; the errors "
            "are below."
        )
    if done.seeds == 1:
        yield (
            "There is one seed only, so no difference comes with an interval. Add seeds to the "
            "sweep file and run it again; what is done is kept."
        )
    if done.arms == 1 and not answers.found:
        yield (
            "There is one arm only and no control, so there is nothing to compare it with. Add "
            "`axes:` or `controls: [random-ticket]` to the sweep file and run it again."
        )
    for found in answers.found:
        if found.refusal:
            yield f"{found.question}: {found.refusal}"
    for name in frame.names:
        lacking = [table for table in LATE if not has(frame, name, table)]
        if lacking:
            yield (
                f"{name} has no table of {', '.join(lacking)} yet: these are written when a sweep "
                "ends or is interrupted."
            )


def has(frame: Frame, name: str, table: str) -> bool:
    """Whether a sweep's table is written."""
    return frame.files.exists(layout.table(name, table))


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
