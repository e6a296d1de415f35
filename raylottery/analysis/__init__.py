"""From Parquet to answers: frames, statistics over seeds, comparisons, published
results beside ours, summaries, exports."""

from __future__ import annotations

from raylottery.analysis.compare import Comparison, Effect, compare
from raylottery.analysis.export import export
from raylottery.analysis.frame import Frame, load
from raylottery.analysis.reference import Finding, check, references
from raylottery.analysis.summary import Summary, summary


__all__ = [
    "load",
    "Frame",
    "compare",
    "Comparison",
    "Effect",
    "check",
    "references",
    "Finding",
    "summary",
    "Summary",
    "export",
]
