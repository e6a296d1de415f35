"""Tables for other tools: rounds as csv or parquet, summaries and comparisons as text."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from raylottery.analysis.compare import Comparison, Effect
from raylottery.analysis.frame import Frame
from raylottery.analysis.reference import Claim, Finding
from raylottery.analysis.stats import Estimate
from raylottery.analysis.summary import summary
from raylottery.analysis.words import percent
from raylottery.errors import UsageError, did_you_mean


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


def comparison_cells(found: Comparison) -> list[dict[str, str]]:
    """A comparison as a table of texts: accuracy in points, what is not known left empty."""
    points = found.stored_as == "accuracy" and found.metric != "loss"
    factor = 100.0 if points else 1.0
    unit = "points" if points else "loss" if found.metric == "loss" else found.stored_as
    return [_cells(effect, found, factor, unit, corrected=found.tested > 1)
            for effect in found.effects]  # fmt: skip


def _cells(
    effect: Effect, found: Comparison, factor: float, unit: str, *, corrected: bool
) -> dict[str, str]:
    cells = {
        SHARES[found.matched]: f"{effect.density:.3g}",
        found.by: effect.value,
        "against": effect.reference,
        f"effect ({unit})": _signed(effect.effect, factor),
        "95 % low": _signed(effect.low, factor),
        "high": _signed(effect.high, factor),
        "seeds": str(effect.n),
        "p": _p(effect.p),
    }
    return cells | {"Holm p": _p(effect.p_holm)} if corrected else cells


def finding_cells(finding: Finding) -> dict[str, str]:
    """A published result and ours as texts: accuracy in per cent, differences of it in points."""
    claim, ours = finding.claim, finding.ours
    accuracy = finding.reference.measures == "accuracy" and claim.quantity.startswith("score")
    factor, digits = (100.0, 2) if accuracy else (1.0, 0 if claim.quantity == "prunable" else 2)

    def said(value: float | None) -> str:
        return "" if value is None else f"{factor * value:.{digits}f}"

    bound = "" if claim.bound == "about" else f"{claim.bound} "
    known = ours is not None and ours.low is not None
    return {
        "claim": claim.id,
        "published": f"{bound}{said(claim.number)}",
        "in": _unit(claim, accuracy=accuracy),
        "tolerance": said(claim.tolerance),
        "ours": "" if ours is None else said(ours.mean),
        "95 % interval": f"{said(ours.low)} to {said(ours.high)}" if known else "",
        "seeds": "" if ours is None else str(ours.n),
        "verdict": finding.verdict,
    }


def _unit(claim: Claim, *, accuracy: bool) -> str:
    if claim.than is not None and claim.form == "ratio":
        return "times"
    if not accuracy:
        return "weights" if claim.quantity == "prunable" else "return"
    return "%" if claim.than is None else "points"


SHARES = {"density": "density", "flops": "share of FLOPs", "pruned": "density of what is pruned"}


def _signed(value: float | None, factor: float) -> str:
    return "" if value is None else f"{factor * value:+.2f}"


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"


def comparison_text(found: Comparison, form: str) -> str:
    """A comparison as `csv` (every figure whole), `markdown` or a `latex` tabular."""
    if form not in FORMS:
        raise UsageError(f"cannot write a comparison as {form!r}. {did_you_mean(form, FORMS)}")
    return FORMS[form](found)


def _csv(found: Comparison) -> str:
    rows = found.to_rows()
    sink = io.StringIO()
    writer = csv.DictWriter(sink, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _markdown(found: Comparison) -> str:
    table = comparison_cells(found)
    lines = [
        _line(table[0]),
        _line("---" if name in TEXTS or name == found.by else "--:" for name in table[0]),
        *(_line(row.values()) for row in table),
        "",
        *(f"- {_flat(sentence)}" for sentence in found.sentences),
        *(f"- Note: {_flat(note)}" for note in found.notes),
    ]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_flat(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _flat(text: str) -> str:
    """On one line: a break in a label would end a table's row, or a comment."""
    return " ".join(text.split())


def _latex(found: Comparison) -> str:
    table = comparison_cells(found)
    columns = "".join("l" if name in TEXTS or name == found.by else "r" for name in table[0])
    return "\n".join(
        [
            *(f"% {_flat(sentence)}" for sentence in found.sentences),
            *(f"% Note: {_flat(note)}" for note in found.notes),
            *_tabular(columns, list(table[0]), [list(row.values()) for row in table]),
            "",
        ]
    )


TEXTS = ("against",)

FORMS: dict[str, Callable[[Comparison], str]] = {
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
}


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A LaTeX table that needs no package, of cells that are no LaTeX yet."""
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\hline",
        _row(map(_escaped, head)),
        r"\hline",
        *(_row(map(_typeset, row)) for row in rows),
        r"\hline",
        r"\end{tabular}",
    ]


def _typeset(cell: str) -> str:
    """A cell as LaTeX; a sign is one of mathematics, and no hyphen."""
    return f"${cell}$" if re.fullmatch(r"[+-]\d+\.\d+", cell) else _escaped(cell)


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
    return "".join(ESCAPES.get(mark, mark) for mark in _flat(text))


def _row(cells) -> str:
    return " & ".join(cells) + r" \\"


def _score(cell: Estimate | None, factor: float) -> str:
    if cell is None:
        return "--"
    mean = f"{factor * cell.mean:.1f}"
    if cell.high is None:
        return mean
    return rf"${mean} \pm {factor * (cell.high - cell.mean):.1f}$"
