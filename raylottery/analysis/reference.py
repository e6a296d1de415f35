"""Published results beside ours: each claim of a paper, its tolerance and a verdict.

The claims are in references.json with their source and how surely they are known. A claim is about
one setting: it is checked against the arms that have it, at the round whose density is nearest,
seed by seed. Where no arm has the setting, or no round comes near, ours is not comparable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pandas as pd

from raylottery.analysis.fields import say, spec_fields
from raylottery.analysis.frame import Frame
from raylottery.analysis.stats import Estimate, group_mean
from raylottery.analysis.words import percent
from raylottery.errors import UsageError, did_you_mean


NEAR = 0.1
"""How far, in log density, a round may be from the published density: a tenth of it."""

SHOWN = 3
"""How many differing fields a verdict names."""

Verdict = Literal["reproduced", "differs", "not comparable"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A number that a paper states, and what it is a number of."""

    id: str
    says: str
    place: str
    """where in the paper"""
    known: str
    """how surely: `text`, `the authors' data`, `read off the figure`, `second hand`, ..."""
    number: float
    tolerance: float
    quantity: str
    """a column of the rounds"""
    of: str = "ticket"
    """whose: `ticket`, a control, or `dense`"""
    than: str | None = None
    """what it is compared with, in the same lineage: `dense` or a control"""
    form: Literal["difference", "ratio"] = "difference"
    density: float | None = None
    """all pruned rounds on average if left out"""
    round: int | None = None
    """this round alone, where it matters in how many the density was reached"""
    bound: Literal["about", "at least", "at most"] = "about"
    where: Mapping[str, object] = field(default_factory=dict)
    """fields that the arms of this claim have, besides those of the reference"""
    remark: str = ""

    def holds(self, ours: float) -> bool:
        """Whether a figure is the published one, within the tolerance."""
        off = ours - self.number
        over, under = off > self.tolerance, off < -self.tolerance
        return not ((over and self.bound != "at least") or (under and self.bound != "at most"))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The claims of one paper about one kind of study."""

    name: str
    paper: str
    measures: str
    tolerances: str
    """where the tolerances come from"""
    setting: Mapping[str, object]
    claims: tuple[Claim, ...]
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim and what our rounds say of it."""

    reference: Reference
    claim: Claim
    ours: Estimate | None
    verdict: Verdict
    why: str

    def to_row(self) -> dict[str, object]:
        """All of it as one plain dictionary."""
        claim, ours = self.claim, self.ours
        return {
            "reference": self.reference.name,
            "paper": self.reference.paper,
            **{
                name: getattr(claim, name)
                for name in ("id", "says", "place", "known", "quantity", "of", "than", "density")
            },
            "form": claim.form if claim.than else "value",
            "bound": claim.bound,
            "published": claim.number,
            "tolerance": claim.tolerance,
            "ours": None if ours is None else ours.mean,
            "low": None if ours is None else ours.low,
            "high": None if ours is None else ours.high,
            "n": 0 if ours is None else ours.n,
            "verdict": self.verdict,
            "why": self.why,
        }


@cache
def references() -> dict[str, Reference]:
    """All published results, by name."""
    text = (files("raylottery.analysis") / "references.json").read_text(encoding="utf-8")
    return {name: _reference(name, **content) for name, content in json.loads(text).items()}


def _reference(name: str, *, claims: Sequence[Mapping[str, Any]], **about: Any) -> Reference:
    return Reference(name=name, claims=tuple(Claim(**claim) for claim in claims), **about)


def check(frame: Frame, name: str) -> list[Finding]:
    """The claims of a reference, each beside what the sweeps measured."""
    known = references()
    if name not in known:
        raise UsageError(f"no published results called {name!r}. {did_you_mean(name, known)}")
    reference = known[name]
    lineages = frame.lineages.drop_duplicates("lineage").set_index("lineage")
    fields = spec_fields(lineages)
    rounds = frame.rounds.drop_duplicates(["lineage", "control", "lineage_mode", "draw", "round"])
    return [_finding(reference, claim, fields, rounds) for claim in reference.claims]


class _Incomparable(Exception):
    """Why ours cannot stand beside the published number."""


def _finding(
    reference: Reference, claim: Claim, fields: pd.DataFrame, rounds: pd.DataFrame
) -> Finding:
    try:
        lineages = matching(fields, {**reference.setting, **claim.where})
        ours = _measured(claim, rounds[rounds["lineage"].isin(lineages)])
    except _Incomparable as reason:
        return Finding(
            reference=reference, claim=claim, ours=None, verdict="not comparable", why=str(reason)
        )
    sound = claim.holds(ours.mean)
    return Finding(
        reference=reference,
        claim=claim,
        ours=ours,
        verdict="reproduced" if sound else "differs",
        why="; ".join(filter(None, [_doubt(claim, ours, sound), claim.remark])),
    )


def _doubt(claim: Claim, ours: Estimate, sound: bool) -> str:
    """What the verdict would not survive."""
    if ours.low is None or ours.high is None:
        return "one seed" if ours.n == 1 else ""
    ends = (claim.holds(ours.low), claim.holds(ours.high))
    if sound:
        return "" if all(ends) else "the interval goes beyond the tolerance"
    straddles = ours.low < claim.number < ours.high
    return "the interval reaches the tolerance" if any(ends) or straddles else ""


def matching(fields: pd.DataFrame, setting: Mapping[str, object]) -> pd.Index:
    """The lineages that have a setting; says which fields differ where none has."""
    wanted = {name: json.dumps(value, sort_keys=True) for name, value in setting.items()}
    fits = pd.DataFrame(
        {
            name: fields[name] == cell if name in fields else pd.Series(False, fields.index)
            for name, cell in wanted.items()
        }
    )
    whole = fits.all(axis=1)
    if whole.any():
        return fits.index[whole]
    nearest = fits.sum(axis=1).idxmax()
    differing = [
        f"{name} is {say(fields.at[nearest, name]) if name in fields else 'no field'} here, "
        f"{say(cell)} there"
        for name, cell in wanted.items()
        if not fits.at[nearest, name]
    ]
    more = len(differing) - SHOWN
    raise _Incomparable(
        "; ".join(differing[:SHOWN]) + (f"; and {more} more fields" if more > 0 else "")
    )


def _measured(claim: Claim, rounds: pd.DataFrame) -> Estimate:
    """Our figure of a claim: a mean over seeds with its interval."""
    if claim.quantity not in rounds or rounds[claim.quantity].isna().all():
        raise _Incomparable(f"no round has a {claim.quantity}")
    keys = ["lineage", "seed", "round"]
    figures = _side(claim, claim.of, rounds).groupby(keys)[claim.quantity].mean()
    if claim.than is not None:
        others = _side(claim, claim.than, rounds)
        if claim.than == "dense":
            base = others.groupby("lineage")[claim.quantity].mean()
            base = base.reindex(figures.index.get_level_values("lineage")).set_axis(figures.index)
        else:
            base = others.groupby(keys)[claim.quantity].mean().reindex(figures.index)
        figures = figures / base.where(base != 0) if claim.form == "ratio" else figures - base
    by_seed = figures.dropna().groupby("seed").mean()
    if by_seed.empty:
        raise _Incomparable(f"no seed has a {claim.quantity} of both sides")
    return group_mean(by_seed.to_numpy(dtype=float))


def _side(claim: Claim, who: str, rounds: pd.DataFrame) -> pd.DataFrame:
    """The rounds that a claim is about, of one of its sides."""
    mode = "own" if who in ("dense", "ticket") else "branch"
    control = "ticket" if who == "dense" else who
    rows = rounds[(rounds["control"] == control) & (rounds["lineage_mode"] == mode)]
    rows = rows[(rows["round"] == 0) == (who == "dense")]
    if claim.round is not None and who != "dense":
        rows = rows[rows["round"] == claim.round]
    if rows.empty:
        raise _Incomparable(
            f"no {who} is finished here" + ("" if mode == "own" else f": controls: [{who}]")
        )
    if claim.density is None or who == "dense":
        return rows
    away = np.log(rows["density"] / claim.density).abs()
    near = away[away <= NEAR]
    if near.empty:
        lowest, highest = percent(rows["density"].min()), percent(rows["density"].max())
        raise _Incomparable(
            f"no finished round of {who} is near {percent(claim.density)} density: they are from "
            f"{highest} to {lowest}"
        )
    nearest = near.groupby(rows["seed"]).transform("min")
    return rows.loc[near.index[near == nearest]]
