"""The benchmark of controls says when their order does not hold."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pandas as pd
import pytest

from raylottery.spec import read_sweep
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def bench():
    path = ROOT / "benchmarks/decomposition.py"
    spec = importlib.util.spec_from_file_location("decomposition", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def study(bench, seeds: int = 6, **changed: float) -> pd.DataFrame:
    """Rounds that scored what the earlier ones did, each control as many points beside them."""
    rng = np.random.default_rng(0)
    rows = []
    for scope, ladder in bench.EARLIER.items():
        for seed in range(seeds):
            for place, (density, scores) in enumerate(ladder.items()):
                for control, score in zip(bench.PAPER, scores, strict=True):
                    beside = changed.get(control.replace("-", "_"), 0.0) + rng.normal() / 10
                    row = {"lineage": f"{scope} {seed}", "control": control, "seed": seed}
                    row |= {"round": 6 + 3 * place, "density": density, "prune.scope": scope}
                    rows.append(row | {"score": (score + beside) / 100})
    same = {"lineage_mode": "branch", "draw": 0, "prunable": 1, "steps": 1500}
    return pd.DataFrame(rows).assign(**same, metric="accuracy")


def test_figures_of_the_same_points_are_the_earlier_ones(bench):
    assert bench.earlier("layerwise", 0.151)["reinit"] == pytest.approx(54.7)
    share = math.log(0.134 / 0.07) / math.log(0.134 / 0.069)
    expected = 60.8 + share * (56.2 - 60.8)
    assert bench.earlier("global", 0.07)["ticket"] == pytest.approx(expected)
    rows = bench.measured(study(bench))
    assert [(row["scope"], row["density"]) for row in rows] == [
        ("layerwise", 0.15), ("layerwise", 0.07), ("global", 0.15), ("global", 0.07),
    ]  # fmt: skip
    for row in rows:
        for control, mean in row["means"].items():
            assert mean["mean"] == pytest.approx(row["earlier"][control], abs=0.3)
            assert mean["n"] == 6
    assert not bench.faults(rows)
    assert bench.corrected(rows) < 1e-3


def test_rounds_without_controls_are_left_out(bench):
    """Or lines between tickets would be shorter than those between controls."""
    rounds = study(bench)
    between = rounds[rounds["control"] == "ticket"].assign(score=0.0)
    between = between.assign(round=between["round"] + 1, density=0.9 * between["density"])
    one, other = (bench.measured(r) for r in (rounds, pd.concat([rounds, between])))
    assert one == other


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ticket": -8.0}, "mask/weights is not shown to be above mask/permuted, -"),
        ({"reinit": 9.0}, "mask/weights is not shown to be above mask/reinit, -"),
        ({"random_global": 8.0}, "permuted/permuted is not shown to be above random/re-init, -"),
        ({"reinit": -4.5}, "mask/reinit is -4."),
        ({"ticket": 4.5}, "mask/weights is +4."),
    ],
)
def test_what_does_not_hold_is_said(bench, changed, said):
    found = bench.faults(bench.measured(study(bench, **changed)))
    for row in ("layerwise, 15 %", "layerwise, 7 %", "global, 15 %", "global, 7 %"):
        assert [line for line in found if line.startswith(f"{row} density: {said}")]


def test_a_missing_seed_or_a_diverged_one_is_no_order(bench):
    alone = bench.measured(study(bench, seeds=1))
    assert len(bench.faults(alone)) == 12, "there is no interval"
    assert not bench.faults(alone, by="mean")
    rounds = study(bench)
    rounds.loc[rounds["control"] == "ticket", "score"] = np.nan
    assert bench.faults(bench.measured(rounds))


def test_the_tables_have_a_row_for_each_scope_and_density(bench):
    text = bench.text(bench.measured(study(bench)), 6)
    rows = [line for line in text.splitlines() if line.startswith("| global")]
    assert len(rows) == 4
    assert all(line.count("|") == len(bench.PAPER) + 3 for line in rows)


def test_it_reads_the_rounds_at_which_the_sweep_draws_its_controls(bench):
    sweep = read_sweep(bench.SWEEP)
    assert {c.kind for c in sweep.controls} == {*bench.PAPER} - {"ticket"}
    assert {c.at for c in sweep.controls} == {f"every {bench.EVERY}"}
    assert sweep.name == bench.NAME
