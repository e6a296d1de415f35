"""Scores at one density: linear in log density between a curve's neighbouring rounds.

A *curve* is one (lineage, control, draw) from its densest round to its sparsest. Arms prune to
slightly different densities round by round, so comparing equal rounds compares unequal networks;
a curve answers at any density it passed, and says nothing outside.

Another share may stand for the density: of the dense network's FLOPs, or of the layers that an
arm prunes. Both are read off what the masks leave of each layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


LADDER = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)

ROUND = ["lineage", "control", "lineage_mode", "draw", "round"]
"""The columns that name a round, whichever sweep it is in."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Rounds laid end to end, curve by curve, densest first."""

    table: pd.DataFrame
    """one row a curve: what it is, and the `lowest` and `highest` density it has a score at"""
    starts: np.ndarray
    density: np.ndarray
    score: np.ndarray
    updates: np.ndarray

    def at(self, density: float) -> tuple[np.ndarray, np.ndarray]:
        """Each curve's score at a density and the updates of the round that reached it.

        NaN where the curve never passed there. Between two rounds the updates are those of the
        sparser one, which is the round trained to get below.
        """
        stops = np.append(self.starts[1:], len(self.density))
        passed = np.add.reduceat((self.density >= density).astype(np.int64), self.starts)
        above = self.starts + np.maximum(passed, 1) - 1
        exact = (passed > 0) & (self.density[above] == density)
        below = np.where(exact, above, above + 1)
        known = (passed > 0) & (below < stops)
        below = np.where(known, below, above)

        rise = np.log(self.density[above]) - np.log(self.density[below])
        depth = np.log(self.density[above]) - np.log(density)
        weight = np.divide(depth, rise, out=np.zeros_like(rise), where=rise > 0)
        score = self.score[above] + weight * (self.score[below] - self.score[above])
        score = np.where(exact, self.score[above], score)
        return np.where(known, score, np.nan), np.where(known, self.updates[below], np.nan)


def curves(rounds: pd.DataFrame, *, metric: str) -> Curves:
    """The curves of a table of rounds."""
    identity = ["lineage", "control", "lineage_mode", "draw"]
    code = rounds.groupby(identity, sort=False, observed=True).ngroup().to_numpy()
    density = rounds["density"].to_numpy(dtype=float)
    order = np.lexsort((-density, code))
    code, density = code[order], density[order]
    score = rounds[metric].to_numpy(dtype=float, na_value=np.nan)[order]
    scored = np.isfinite(score)
    score = np.where(scored, score, np.nan)  # a loss may be infinite, and no mean holds that
    starts = np.flatnonzero(np.append(True, code[1:] != code[:-1]))

    constant = [*identity, "seed", "prunable", "metric"]
    table = rounds[constant].take(order[starts]).reset_index(drop=True)
    table = table.astype(dict.fromkeys(["lineage", "control", "lineage_mode", "metric"], "str"))
    lowest = np.minimum.reduceat(np.where(scored, density, np.inf), starts)
    highest = np.maximum.reduceat(np.where(scored, density, -np.inf), starts)
    never = np.isinf(lowest)
    table["lowest"] = np.where(never, np.nan, lowest)
    table["highest"] = np.where(never, np.nan, highest)
    return Curves(
        table=table,
        starts=starts,
        density=density,
        score=score,
        updates=rounds["steps"].to_numpy(dtype=float)[order],
    )


def flops_shares(layers: pd.DataFrame) -> pd.DataFrame:
    """What each round keeps of the multiply-adds of its dense network: ROUND and a `share`."""
    rounds = layers.groupby(ROUND, observed=True)["flops_kept"].sum().reset_index()
    dense = rounds[rounds["round"] == 0].set_index("lineage")["flops_kept"]
    share = rounds["flops_kept"] / rounds["lineage"].map(dense).astype(float)
    return rounds[ROUND].assign(share=share)


def pruned_shares(layers: pd.DataFrame) -> pd.DataFrame:
    """What each round keeps of the layers that its lineage prunes: ROUND and a `share`."""
    pruned = layers["kept"] < layers["prunable"]
    names = layers.loc[pruned, ["lineage", "layer", "prunable"]].drop_duplicates()
    # Of the lineage's own network: a small-dense control has layers of other sizes.
    whole = names.groupby("lineage", observed=True)["prunable"].sum()
    sums = layers.merge(names[["lineage", "layer"]]).groupby(ROUND, observed=True)["kept"].sum()
    kept = layers[ROUND].drop_duplicates().join(sums, on=ROUND)
    share = kept["kept"] / kept["lineage"].map(whole).astype(float)
    # A lineage that has pruned nothing yet is whole.
    return kept[ROUND].assign(share=share.fillna(1.0))


def ladder(lowest: float, highest: float) -> tuple[float, ...]:
    """The usual densities within a range, or its lowest where none fits."""
    return tuple(step for step in LADDER if lowest <= step <= highest) or (lowest,)
