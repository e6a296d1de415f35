"""A drawing: a figure, what to write under it, and the three files it becomes.

The same frame gives the same bytes: nothing is dated, and the ids of an SVG follow from its name.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from raylottery.errors import UsageError


STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and restyled
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a label is a dollar
}

DATELESS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure, its caption with n and the interval's method, and its name."""

    figure: Figure
    caption: str
    name: str


def svg(drawn: Drawn) -> str:
    """The drawing as the text of an SVG."""
    return _bytes(drawn, "svg").decode()


def save(drawn: Drawn, path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Writes a drawing as PNG, SVG and PDF; a suffix of `path` is replaced by each of theirs."""
    files = tuple(Path(path).with_suffix(f".{kind}") for kind in DATELESS)
    for file in files:
        try:
            file.write_bytes(_bytes(drawn, file.suffix[1:]))
        except OSError as error:
            raise UsageError(
                f"cannot write {file}: {error.strerror or error}. Name a file in a folder that "
                "exists and can be written."
            ) from error
    return files


def _bytes(drawn: Drawn, kind: str) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": drawn.name}):
        drawn.figure.savefig(file, format=kind, dpi=200, metadata=DATELESS[kind])
    return file.getvalue()
