"""What a person would say of a comparison: one sentence, no more certain than its figures.

Accuracy is stored as a fraction and spoken in points; a return is spoken as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylottery.analysis.fields import say
from raylottery.analysis.stats import LEVEL, Estimate
from raylottery.analysis.stats.means import MOST_SEEDS


PLURAL = {"beats": "beat", "is": "are"}


PLACES = {
    "density": "{} density",
    "flops": "{} of the dense FLOPs",
    "pruned": "{} density of what each arm prunes",
}


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """Holm's p of a finding, and over how many densities."""

    p: float | None
    of: int

    def tells(self, estimate: Estimate) -> bool:
        """Whether there is a difference, whoever looked at all these densities."""
        return estimate.tells and (self.of == 1 or (self.p is not None and self.p < 1 - LEVEL))

    def said(self, p: float) -> str:
        """The p of the finding by itself, and corrected where there is something to correct."""
        if self.of == 1 or self.p is None:
            return p_value(p)
        return f"{p_value(p)}, Holm {p_value(self.p)}"


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How the values and figures of one comparison are spoken."""

    names: Mapping[str, str]
    """what to call each value"""
    unit: str
    factor: float
    """from the stored figure to the spoken one"""
    higher_wins: bool
    tells_updates: bool
    place: str
    """what a density is a density of"""

    def finding(
        self,
        estimate: Estimate,
        density: float,
        value: str,
        reference: str,
        corrected: Corrected,
    ) -> str:
        """The difference and what it is worth, the winner named first."""
        here = self._here(density)
        ahead = (estimate.mean > 0) == self.higher_wins
        better, worse = (value, reference) if ahead else (reference, value)
        if estimate.low is None or estimate.high is None or estimate.p is None:
            return f"{here} {self._without_interval(estimate, better, worse)}"

        finest = estimate.high - estimate.mean
        if (
            estimate.tells
        ):  # an interval that excludes zero must not be rounded to one that holds it
            finest = min(finest, abs(estimate.low), abs(estimate.high))
        size, low, high = self._spoken(estimate.mean, estimate.low, estimate.high, finest=finest)
        seeds = f"{estimate.n} paired seeds ({corrected.said(estimate.p)})"
        if not corrected.tells(estimate):
            return (
                f"{here} the data cannot tell {self.names[value]} from {self.names[reference]}: "
                f"a difference of {size} {self.unit}, 95 % interval {low} to {high}, {seeds}."
            )
        # The winner comes first, so its lead and both ends of the interval are positive.
        size, low, high = (figure.lstrip("-") for figure in (size, low, high))
        low, high = sorted((low, high), key=float)
        return (
            f"{here} {self.names[better]} {self._verb('beats', better)} {self.names[worse]} by "
            f"{size} {self.unit}, 95 % interval {low} to {high}, {seeds}."
        )

    def nothing(self, density: float, value: str, reference: str, planned: int) -> str:
        """That no pair has passed this density."""
        return (
            f"{self._here(density)} no pair of {self.names[value]} and "
            f"{self.names[reference]} is measured: {planned} of {planned} pairs are missing."
        )

    def more(self, estimate: Estimate, corrected: Corrected, needed: int | None) -> str:
        """How many seeds would tell, where these cannot."""
        if estimate.low is None or estimate.mean == 0 or corrected.tells(estimate):
            return ""
        among = f"Looked at alone it would count; among {corrected.of} densities it does not. "
        said = among if estimate.tells else ""
        if needed is None:
            most = f"{MOST_SEEDS:,} seeds"
            return f"{said}It would take more than {most} to tell so small a difference."
        if needed <= estimate.n:
            return said.strip()
        return f"{said}About {needed:,} seeds would tell a difference of this size 4 times in 5."

    def updates(self, trained: Mapping[str, float]) -> str:
        """How long each side trained a round, where that differs or is the question."""
        if not self.tells_updates and len(set(trained.values())) == 1:
            return ""
        sides = (f"{self.names[side]} {count:,.0f}" for side, count in trained.items())
        return f"Updates trained a round: {', '.join(sides)}."

    def missing(self, missing: int, planned: int) -> str:
        """How much of the plan the figures lack."""
        if missing == 0:
            return ""
        return f"{missing} of {planned} pairs {'is' if missing == 1 else 'are'} missing."

    def _here(self, density: float) -> str:
        return f"At {self.place.format(percent(density))}"

    def _without_interval(self, estimate: Estimate, better: str, worse: str) -> str:
        one = estimate.n == 1
        where = "in the one paired seed" if one else f"in all {estimate.n} paired seeds"
        if estimate.mean == 0:
            return f"{self.names[better]} and {self.names[worse]} are equal {where}."
        (size,) = self._spoken(abs(estimate.mean), finest=estimate.mean)
        lead = (
            f"{self.names[better]} {self._verb('is', better)} {size} {self.unit} ahead of "
            f"{self.names[worse]}"
        )
        if one:
            return f"{lead} {where}; one seed cannot tell this from chance."
        return f"{lead} by the same amount {where}, which gives no interval."

    def _verb(self, verb: str, subject: str) -> str:
        return PLURAL[verb] if self.names[subject] == "tickets" else verb

    def _spoken(self, *figures: float, finest: float) -> tuple[str, ...]:
        """Figures with the same decimals: at least one, and a digit of the finest."""
        finest = abs(self.factor * finest)
        decimals = min(max(1, -math.floor(math.log10(finest))), 4) if finest else 1
        # Adding 0.0 makes a rounded -0.0 positive.
        return tuple(
            f"{round(self.factor * figure, decimals) + 0.0:.{decimals}f}" for figure in figures
        )


def speech_for(
    values: Sequence[str], *, by: str, metric: str, stored_as: str, matched: str
) -> Speech:
    """The way to speak of values (as JSON text) and of one column of the rounds."""
    texts = {value: say(value) for value in values}
    if by == "control":
        texts = {value: "tickets" if text == "ticket" else text for value, text in texts.items()}
    elif not all(value.startswith('"') and text[:1].isalpha() for value, text in texts.items()):
        texts = {value: f"{by.rsplit('.', 1)[-1]}={text}" for value, text in texts.items()}
    points = stored_as == "accuracy" and metric != "loss"
    return Speech(
        names=texts,
        unit="points of accuracy" if points else f"in {'loss' if metric == 'loss' else stored_as}",
        factor=100.0 if points else 1.0,
        higher_wins=metric != "loss",
        tells_updates="rewind." in by,
        place=PLACES[matched],
    )


def percent(density: float) -> str:
    """A density as people say it; one below 1 is never said to be 100 %."""
    said = f"{100 * density:.3g}"
    return f"{100 * density:.6g} %" if said == "100" else f"{said} %"


def p_value(p: float) -> str:
    """A p-value, no finer than anyone should read it."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"
