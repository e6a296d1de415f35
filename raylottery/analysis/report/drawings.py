"""Figures inside a page: inline SVG whose colours follow the page, with values to point at.

Matplotlib's SVG is made for a file of its own. Here its ids get the figure's name in front, so
that no two figures clash; its greys become the page's ink and paper; and each artist of an arm
carries the arm's id as data, by which the page hides it in all figures at once.
"""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raylottery.analysis.figures import FIGURES, FURTHER, Drawn, score_by_density, svg
from raylottery.analysis.figures.groups import Groups, arms, grouped
from raylottery.analysis.frame import Frame
from raylottery.analysis.report.answers import Answers
from raylottery.analysis.words import percent
from raylottery.errors import UsageError


MOST_BYTES = 300_000
"""of a figure as SVG: beyond, it is a picture"""

MOST_ARMS = 100
"""in a figure with a line an arm: beyond, it takes minutes and shows a thicket"""

MOST_POINTS = 1500
"""that can be pointed at in one figure"""

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
ARM = re.compile(r"arm-(.+?)(--\d+)?")

INKS = {
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
    "#222222": "var(--ink)",
    "#333333": "var(--ink)",
    "#555555": "var(--soft)",
    "#888888": "var(--soft)",
    "#e4e4e4": "var(--rule)",
}
"""Matplotlib's greys, and what each is on the page."""

FIXED = "fixed--"
"""The ids of what keeps its colour, whatever the page's is."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure ready for the page."""

    name: str
    title: str
    caption: str
    body: Markup
    width: float
    """in points, as drawn"""
    key: tuple[tuple[str, str], ...] = ()
    """labels and colours, for screens that the legend does not fit on"""
    points: tuple[dict, ...] = ()
    """what can be pointed at: arm, x and y in the SVG, text"""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A figure that these sweeps cannot give, and why."""

    name: str
    title: str
    why: str


def answer_plot(frame: Frame, answers: Answers) -> Plot | Refused:
    """The figure beside the opening sentence: the scores by density."""
    found = next((item for item in answers.found if item.sentences), None)
    if found is not None and found.by != "control":
        try:
            drawn = score_by_density(found.frame, by=found.by)
            return _plot(drawn, "answer", grouped(found.frame, found.by))
        except UsageError:  # more values than lines that can be told apart: all arms, then
            pass
    return _drawn("score_by_density", frame, "answer")


def plots(
    frame: Frame, *, besides: Plot | Refused
) -> tuple[tuple[Plot, ...], tuple[Refused, ...]]:
    """All other figures: those that could be drawn, and those of any sweep that could not."""
    drawn = [_drawn(name, frame, name) for name in FIGURES]
    further = [_drawn(name, frame, name) for name in FURTHER]
    shown = [one for one in (*drawn, *further) if isinstance(one, Plot)]
    if isinstance(besides, Plot):
        shown = [one for one in shown if one.caption != besides.caption]
    return tuple(shown), tuple(one for one in drawn if isinstance(one, Refused))


def _drawn(name: str, frame: Frame, id: str) -> Plot | Refused:
    many = frame.lineages["arm"].nunique()
    if many > MOST_ARMS:
        why = (
            f"{many:,} arms are too many for one figure. Draw what you want of them from Python: "
            f"`raylottery.analysis.figures.{name}(raylottery.load(...))`."
        )
        return Refused(name=id, title=_title(name), why=why)
    try:
        return _plot((FIGURES | FURTHER)[name](frame), id, arms(frame))
    except UsageError as error:
        return Refused(name=id, title=_title(name), why=str(error))


def _plot(drawn: Drawn, id: str, groups: Groups) -> Plot:
    _fix_notes(drawn.figure)
    width, height = (72 * float(inches) for inches in drawn.figure.get_size_inches())
    with warnings.catch_warnings():
        # The browser writes the text, in fonts that matplotlib does not have.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        text = svg(drawn)
        whole = len(text) <= MOST_BYTES
        return Plot(
            name=id,
            title=_title(drawn.name),
            caption=drawn.caption,
            body=_inline(text, id) if whole else _picture(drawn, width, height),
            width=width,
            key=tuple((group.label, group.colour) for group in groups.loud),
            points=_points(drawn.figure, height, groups) if whole else (),
        )


def _fix_notes(figure: Figure) -> None:
    """Numbers upon a heat map stand on its colours, not on the page's."""
    notes = [note for axes in figure.axes if axes.images for note in axes.texts]
    for number, note in enumerate(notes, start=1):
        note.set_gid(f"{FIXED}{number}")


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").capitalize()


def _inline(text: str, id: str) -> Markup:
    """The `<svg>` element alone, its ids, colours and arms as the page has them."""
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style") or "metadata" in child.tag:
                parent.remove(child)
    _place(root, id, INKS)
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _place(element: ElementTree.Element, id: str, inks: Mapping[str, str]) -> None:
    """Renames what an element and all in it refer to, and gives them the page's colours."""
    element.tag = element.tag.removeprefix(SVG)
    given = element.attrib
    if given.get("id", "").startswith(FIXED):
        inks = {}
    if LINK in given:  # another element of the figure, or an image within the page
        given["href"] = re.sub("^#", f"#{id}-", given.pop(LINK))
    for name in ("clip-path", "style", "fill", "stroke"):
        if name in given:
            value = re.sub(r"url\(#", f"url(#{id}-", given[name])
            given[name] = re.sub(
                r"#[0-9a-f]{6}", lambda found: inks.get(found[0], found[0]), value
            )
    if "id" in given:
        arm = ARM.fullmatch(given["id"])
        if arm:
            given["data-arm"] = arm[1]
        given["id"] = f"{id}-{given['id']}"
    for child in element:
        _place(child, id, inks)


def _picture(drawn: Drawn, width: float, height: float) -> Markup:
    """A figure of too many artists, as pixels on white."""
    file = io.BytesIO()
    drawn.figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    data = base64.b64encode(file.getvalue()).decode()
    return Markup(
        '<img alt="" width="{:.0f}" height="{:.0f}" src="data:image/png;base64,{}">'
    ).format(width, height, data)


def _points(figure: Figure, height: float, groups: Groups) -> tuple[dict, ...]:
    """The values of all lines that belong to a group, where the SVG has them."""
    labels = {group.gid: group.label for group in groups}
    figure.dpi = 72  # an SVG's units, whose y goes down
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        for line in axes.get_lines():
            gid = str(line.get_gid()).partition("--")[0]
            if gid not in labels:
                continue
            label = f"{labels[gid]}, {rung(line)}" if rung(line) else labels[gid]
            values = np.asarray(line.get_xydata(), dtype=float)
            places = line.get_transform().transform(values)
            for (x, y), (left, top) in zip(values.tolist(), places.tolist(), strict=True):
                if math.isfinite(left) and math.isfinite(top):
                    found.append(
                        {
                            "arm": gid.removeprefix("arm-"),
                            "x": round(left, 1),
                            "y": round(height - top, 1),
                            "text": f"{label}: {_pair(axes, x, y)}",
                        }
                    )
    return tuple(found) if len(found) <= MOST_POINTS else ()


def rung(line: Line2D) -> str:
    """What a line shows besides the tickets of its group."""
    own = str(line.get_label())
    if not own.startswith("_"):  # as matplotlib calls a line that nobody named
        return own
    return "control" if line.is_dashed() else ""


def _pair(axes: Axes, x: float, y: float) -> str:
    """A point's value and where it is, in the words of the axes."""
    share = axes.get_xscale() == "log" and max(axes.get_xlim()) < 2
    across = percent(x) if share else f"{x:,.4g}"
    what = (axes.get_title(loc="left"), axes.get_ylabel())
    per_cent = any(label.endswith(", %") for label in what) or not axes.get_title(loc="left")
    return f"{y:,.4g}{' %' if per_cent else ''} at {across}"
