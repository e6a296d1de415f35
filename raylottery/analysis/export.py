"""Tables for other tools: rounds as csv or parquet, the summary as a LaTeX tabular."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from raylottery.analysis.frame import Frame
from raylottery.analysis.stats import Estimate
from raylottery.analysis.summary import summary
from raylottery.analysis.words import percent
from raylottery.errors import UsageError


def export(frame: Frame, file: str | os.PathLike[str]) -> Path:
    """Writes what was loaded to a file; its suffix says how: .csv, .parquet or .tex."""
    path = Path(file)
    if path.suffix not in WRITERS:
        raise UsageError(
            f"cannot export to {path.name!r}: the suffix says the format. "
            f"Valid: {', '.join(WRITERS)}."
        )
    try:
        WRITERS[path.suffix](frame, path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}. Name a file in a folder that exists "
            "and can be written."
        ) from error
    return path


def latex(frame: Frame) -> str:
    """The summary as a tabular that needs no package: mean and half of its 95 % interval."""
    table = summary(frame)
    head = ["Arm", "Control", "Seeds", *(percent(density) for density in table.densities)]
    lines = [
        "% Mean score over seeds, plus or minus half of the 95 % Student t interval, by density.",
        "% Accuracy in per cent. No half-width: fewer than two seeds, or no spread among them.",
        rf"\begin{{tabular}}{{llr{'r' * len(table.densities)}}}",
        r"\hline",
        _row(map(_escaped, head)),
        r"\hline",
    ]
    for row in table.rows:
        factor = 100.0 if row.stored_as == "accuracy" else 1.0
        scores = (_score(cell, factor) for cell in row.cells)
        names = map(_escaped, (row.arm_label, row.control, str(row.seeds)))
        lines.append(_row([*names, *scores]))
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _rounds(frame: Frame) -> pa.Table:
    return pa.Table.from_pandas(frame.rounds, preserve_index=False)


WRITERS: dict[str, Callable[[Frame, Path], object]] = {
    ".csv": lambda frame, path: pa.csv.write_csv(_rounds(frame), path),
    ".parquet": lambda frame, path: pa.parquet.write_table(_rounds(frame), path),
    ".tex": lambda frame, path: path.write_text(latex(frame), encoding="utf-8"),
}

ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(mark, mark) for mark in text)


def _row(cells) -> str:
    return " & ".join(cells) + r" \\"


def _score(cell: Estimate | None, factor: float) -> str:
    if cell is None:
        return "--"
    mean = f"{factor * cell.mean:.1f}"
    if cell.high is None:
        return mean
    return rf"${mean} \pm {factor * (cell.high - cell.mean):.1f}$"
