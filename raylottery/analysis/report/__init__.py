"""One page about sweeps: the answer first, then everything it stands on.

The page is whole in itself: its style, its script and its figures are inside it, it asks no
network for anything, and the same tables give the same bytes. What comes from outside (labels,
errors) is escaped by the template, and a content policy lets no script run but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from raylottery.analysis.frame import Frame
from raylottery.analysis.report.answers import Answer, answer
from raylottery.analysis.report.drawings import INKS, Plot, Refused, answer_plot, plots
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
from raylottery.analysis.words import percent


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
    script = _part("script.js")
    headline, *details = re.split(r"(?<=[\w).]\.) (?=[A-Z])", found.opening, maxsplit=1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        report=found,
        title=", ".join(found.names),
        headline=headline,
        details=" ".join(details),
        style=Markup(_part("style.css")),
        script=Markup(script),
        script_hash=digest,
    )


def report(frame: Frame) -> str:
    """One self-contained HTML page about what was loaded."""
    return page(gather(frame))


def prose(text: str) -> Markup:
    """Text as it is printed: commands as code, figures on one line with their signs and units."""
    text = str(escape(text))
    text = re.sub("`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\u00a0", text)
    return Markup(re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text))


def _ink(colour: str) -> str:
    """An arm's colour as the figures have it: black is the page's ink."""
    return INKS.get(colour, colour)


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "prose": prose, "ink": _ink}
    return environment.from_string(_part("page.html"))


def _part(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")
