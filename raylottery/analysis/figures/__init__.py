"""Figures: each a function from a frame to a drawing with its caption, usable alone.

An arm has the same colour and marker in all figures of a frame, and none of them needs a screen.
"""

from __future__ import annotations

from collections.abc import Callable

from raylottery.analysis.figures.depth import critical_densities, rewind_curve
from raylottery.analysis.figures.drawn import Drawn, save, svg
from raylottery.analysis.figures.groups import colours
from raylottery.analysis.figures.ladder import control_ladder
from raylottery.analysis.figures.layers import layer_densities
from raylottery.analysis.figures.probed import barriers, input_survival
from raylottery.analysis.figures.scores import score_by_density, score_by_flops
from raylottery.analysis.figures.training import learning_curves, training_speed


FIGURES: dict[str, Callable[..., Drawn]] = {
    "score_by_density": score_by_density,
    "score_by_flops": score_by_flops,
    "critical_densities": critical_densities,
    "rewind_curve": rewind_curve,
    "training_speed": training_speed,
    "learning_curves": learning_curves,
    "layer_densities": layer_densities,
}
"""Those that apply to any sweep; each refuses a frame that cannot give it, and says why."""

FURTHER: dict[str, Callable[..., Drawn]] = {
    "control_ladder": control_ladder,
    "input_survival": input_survival,
    "barriers": barriers,
}
"""Those that need controls, or what `raylottery analyse` writes."""

__all__ = [*FIGURES, *FURTHER, "FIGURES", "FURTHER", "Drawn", "colours", "save", "svg"]
