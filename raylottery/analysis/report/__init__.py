"""One page about sweeps: the answer first, then everything it stands on.

The page is whole in itself: its style, its script and its figures are inside it, it asks no
network for anything, and the same tables give the same bytes. What comes from outside (labels,
errors) is escaped by the template, and a content policy lets no script run but the page's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from raylottery.analysis.frame import Frame
from raylottery.analysis.report.answers import Answer, answer
from raylottery.analysis.report.drawings import Plot, Refused, answer_plot, plots
from raylottery.analysis.report.html import laid_out, part
from raylottery.analysis.report.methods import Method, methods
from raylottery.analysis.report.missing import Progress, missing, progress
from raylottery.analysis.report.tables import (
    ArmTable,
    FailureTable,
    LineageList,
    arm_table,
    failure_table,
    lineage_list,
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page says, before it is laid out."""

    names: tuple[str, ...]
    opening: str
    """the sentence that the page opens on"""
    first: Plot | Refused
    missing: tuple[str, ...]
    answers: tuple[Answer, ...]
    plots: tuple[Plot, ...]
    not_drawn: tuple[Refused, ...]
    progress: Progress
    arms: ArmTable
    lineages: LineageList
    failures: FailureTable
    methods: tuple[Method, ...]


def gather(frame: Frame) -> Report:
    """Everything that the page of these sweeps says."""
    done = progress(frame)
    answers = answer(frame, done)
    first = answer_plot(frame, answers)
    drawn, refused = plots(frame, besides=first)
    failures = failure_table(frame)
    return Report(
        names=frame.names,
        opening=answers.opening,
        first=first,
        missing=missing(frame, done, answers, failures),
        answers=answers.found,
        plots=drawn,
        not_drawn=refused,
        progress=done,
        arms=arm_table(frame, done),
        lineages=lineage_list(frame, done),
        failures=failures,
        methods=methods(frame),
    )


def page(found: Report) -> str:
    """The page as HTML."""
    return laid_out(
        "page.html", style=part("style.css"), script=part("script.js"), **spoken(found)
    )


def spoken(found: Report) -> dict[str, object]:
    """What a template is told of a report: all of it, and its opening in two."""
    headline, *details = re.split(r"(?<=[\w).]\.) (?=[A-Z])", found.opening, maxsplit=1)
    return {
        "report": found,
        "title": ", ".join(found.names),
        "headline": headline,
        "details": " ".join(details),
    }


def report(frame: Frame) -> str:
    """One self-contained HTML page about what was loaded."""
    return page(gather(frame))
