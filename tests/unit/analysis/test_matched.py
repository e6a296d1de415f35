from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.analysis.matched import curves, ladder


def rounds(*lineages: dict[float, float], steps: tuple[int, ...] = (525, 490)) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "lineage": f"{number:012x}",
                "control": "ticket",
                "lineage_mode": "own",
                "draw": 0,
                "seed": number,
                "prunable": 1000,
                "metric": "accuracy",
                "density": density,
                "score": score,
                "steps": steps[min(index, len(steps) - 1)],
            }
            for number, lineage in enumerate(lineages)
            for index, (density, score) in enumerate(lineage.items())
        ]
    )


def test_at_a_rounds_own_density_the_score_is_that_rounds():
    table = rounds({1.0: 0.613, 0.8: 0.6271, 0.64: 0.60031}, {1.0: 0.1, 0.8: 0.3, 0.6: 0.7})
    found = curves(table, metric="score")
    assert found.at(0.8)[0].tolist() == [0.6271, 0.3]
    assert found.at(1.0)[0].tolist() == [0.613, 0.1]
    assert found.at(0.64)[0][0] == 0.60031


def test_between_rounds_the_score_is_linear_in_log_density():
    found = curves(rounds({1.0: 0.6, 0.25: 0.4, 0.01: 0.2}), metric="score")
    assert found.at(0.5)[0] == pytest.approx([0.5], abs=1e-15)
    assert found.at(0.05)[0] == pytest.approx([0.3], abs=1e-15)


def test_outside_its_range_a_curve_says_nothing():
    found = curves(rounds({0.5: 0.6, 0.25: 0.4}, {1.0: 0.7, 0.1: 0.5}, {0.3: 0.2}), metric="score")
    assert np.isnan(found.at(1.0)[0]).tolist() == [True, False, True]
    assert np.isnan(found.at(0.3)[0]).tolist() == [False, False, False]
    assert np.isnan(found.at(0.2)[0]).tolist() == [True, False, True]
    assert np.isnan(found.at(0.0999)[0]).all()
    assert found.table["lowest"].tolist() == [0.25, 0.1, 0.3]
    assert found.table["highest"].tolist() == [0.5, 1.0, 0.3]


def test_the_updates_are_those_of_the_round_that_got_there():
    found = curves(rounds({1.0: 0.6, 0.5: 0.5, 0.25: 0.4}), metric="score")
    assert [found.at(density)[1][0] for density in (1.0, 0.9, 0.5, 0.3)] == [525, 490, 490, 490]


def test_an_infinite_score_is_none():
    table = rounds({1.0: 0.9, 0.5: 0.8, 0.25: np.inf})
    found = curves(table, metric="score")
    assert found.table["lowest"].tolist() == [0.5]
    assert np.isnan(found.at(0.3)[0]).all()
    assert np.isnan(found.at(0.25)[0]).all()


def test_a_round_without_a_score_leaves_a_gap_and_ends_the_range():
    table = rounds({1.0: np.nan, 0.5: 0.6, 0.25: np.nan, 0.125: 0.2, 0.06: np.nan})
    found = curves(table, metric="score")
    assert (found.table["lowest"][0], found.table["highest"][0]) == (0.125, 0.5)
    assert np.isnan([found.at(density)[0][0] for density in (1.0, 0.4, 0.2, 0.1)]).all()
    assert [found.at(density)[0][0] for density in (0.5, 0.125)] == [0.6, 0.2]


score = st.floats(0, 1)
density = st.integers(1, 1000).map(lambda kept: kept / 1000)


@given(
    lineages=st.lists(
        st.dictionaries(density, score, min_size=1, max_size=6), min_size=1, max_size=4
    ),
    at=density,
    shuffle=st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=80)
def test_it_is_numpys_interpolation_whatever_the_order_of_the_rows(lineages, at, shuffle):
    table = rounds(*lineages)
    order = list(table.index)
    shuffle.shuffle(order)
    found = curves(table.loc[order], metric="score")
    got = dict(zip(found.table["lineage"], found.at(at)[0], strict=True))
    for number, lineage in enumerate(lineages):
        known = sorted(lineage.items())
        expected = np.interp(
            np.log(at),
            np.log([kept for kept, _ in known]),
            [figure for _, figure in known],
            left=np.nan,
            right=np.nan,
        )
        assert got[f"{number:012x}"] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_the_usual_densities_stop_at_the_data():
    assert ladder(0.013, 1.0) == (0.5, 0.2, 0.1, 0.05, 0.02)
    assert ladder(0.05, 0.2) == (0.2, 0.1, 0.05)
    assert ladder(0.64, 1.0) == (0.64,)
