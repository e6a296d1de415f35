"""From Parquet to answers: frames, statistics over seeds, comparisons, summaries, exports."""

from __future__ import annotations

from raylottery.analysis.compare import Comparison, Effect, compare
from raylottery.analysis.export import export
from raylottery.analysis.frame import Frame, load
from raylottery.analysis.summary import Summary, summary


__all__ = ["load", "Frame", "compare", "Comparison", "Effect", "summary", "Summary", "export"]
