from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from raylottery.analysis.stats import (
    Estimate,
    iqm,
    normalised,
    probability_of_improvement,
    stratified_iqm,
)


SCORES = np.array(
    [
        [0.61, 0.12, 1.40],
        [0.63, 0.55, 1.10],
        [0.59, 0.31, 0.20],
        [0.64, 0.48, 1.32],
        [0.60, 0.29, 1.25],
    ]
)
BASELINE = np.array(
    [
        [0.57, 0.30, 1.20],
        [0.61, 0.28, 1.10],
        [0.57, 0.41, 0.90],
        [0.58, 0.12, 1.33],
    ]
)


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def published_probability(x: np.ndarray, y: np.ndarray) -> float:
    """Agarwal et al. 2021, section 4: P(X > Y) with ties half, the mean over tasks."""
    chances = []
    for task in range(x.shape[1]):
        wins = 0.0
        for ours in x[:, task]:
            for theirs in y[:, task]:
                wins += 1.0 if ours > theirs else 0.5 if ours == theirs else 0.0
        chances.append(wins / (len(x) * len(y)))
    return float(np.mean(chances))


def published_interval(figure, *scores: np.ndarray, resamples: int) -> np.ndarray:
    """Percentiles of resamples: every run of every task drawn anew from its own task."""
    generator = np.random.default_rng(99)
    figures = []
    for _ in range(resamples):
        again = []
        for table in scores:
            copy = np.empty_like(table)
            for task in range(table.shape[1]):
                copy[:, task] = generator.choice(table[:, task], len(table))
            again.append(copy)
        figures.append(figure(*again))
    return np.percentile(figures, [2.5, 97.5])


@given(
    arrays.arrays(
        float,
        st.tuples(st.integers(1, 9), st.integers(1, 5)),
        elements=st.integers(-1000, 1000).map(float),
    )
)
@settings(deadline=None, max_examples=60)
def test_the_interquartile_mean_is_a_quarter_trimmed_off_each_end(scores):
    untouched = scores.copy()
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert iqm(scores) == pytest.approx(expected, abs=1e-9)
    assert stratified_iqm(scores, resamples=2).mean == pytest.approx(expected, abs=1e-9)
    for axis in (0, 1):
        expected = scipy.stats.trim_mean(scores, 0.25, axis=axis)
        assert iqm(scores, axis=axis) == pytest.approx(expected, abs=1e-9)
    assert (scores == untouched).all()


def test_the_interquartile_mean_of_three_is_their_mean():
    assert iqm([1.0, 2.0, 9.0]) == 4.0
    assert iqm([1.0, 2.0, 3.0, 90.0]) == 2.5


def test_a_stratified_interval_is_that_of_the_definition():
    found = stratified_iqm(SCORES)
    expected = published_interval(
        lambda table: scipy.stats.trim_mean(table, 0.25, axis=None), SCORES, resamples=4000
    )
    assert found.mean == pytest.approx(scipy.stats.trim_mean(SCORES, 0.25, axis=None))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.01)
    assert found.n == 5


def test_resampling_stays_within_a_task():
    apart = np.array([[0.0, 100.0], [1.0, 101.0], [2.0, 102.0], [3.0, 103.0]])
    found = stratified_iqm(apart)
    low, high = ends(found)
    assert 50 < low < found.mean < high < 53


def test_a_seed_gives_the_same_interval_again_and_another_nearly():
    assert stratified_iqm(SCORES) == stratified_iqm(SCORES)
    other = stratified_iqm(SCORES, seed=1)
    assert other != stratified_iqm(SCORES)
    assert other.low == pytest.approx(stratified_iqm(SCORES).low, abs=0.01)


def test_ten_thousand_resamples_of_ten_seeds_and_twenty_rounds_are_quick():
    scores = np.random.default_rng(0).normal(size=(10, 20))
    begun = time.process_time()
    stratified_iqm(scores, resamples=10_000)
    assert time.process_time() - begun < 0.5


def test_large_studies_are_drawn_in_blocks():
    found = stratified_iqm(np.random.default_rng(0).normal(size=(50, 100)), resamples=1000)
    low, high = ends(found)
    assert -0.05 < low < 0 < high < 0.05


def test_one_task_may_be_a_plain_sequence():
    assert stratified_iqm([1.0, 2.0, 3.0, 4.0]) == stratified_iqm([[1.0], [2.0], [3.0], [4.0]])


@pytest.mark.parametrize("scores", [[0.7], [0.5, 0.5, 0.5], [[0.1, 0.9]]])
def test_no_spread_within_tasks_gives_no_interval(scores):
    assert stratified_iqm(scores).low is None


def test_the_probability_of_improvement_is_the_published_one():
    found = probability_of_improvement(SCORES, BASELINE)
    assert found.mean == pytest.approx(published_probability(SCORES, BASELINE), rel=1e-12)
    expected = published_interval(published_probability, SCORES, BASELINE, resamples=2000)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
    assert found.n == 4


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8), st.lists(st.integers(0, 9), min_size=1)
)
@settings(deadline=None, max_examples=40)
def test_the_probability_of_improvement_is_mann_and_whitneys(x, y):
    expected = scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))
    found = probability_of_improvement(x, y, resamples=50)
    assert found.mean == pytest.approx(expected, rel=1e-12)
    other_way = probability_of_improvement(y, x, resamples=50)
    assert found.mean + other_way.mean == pytest.approx(1.0)


def test_equal_runs_are_no_improvement():
    found = probability_of_improvement(SCORES, SCORES)
    assert found.mean == 0.5
    assert not found.tells


def test_runs_that_do_not_overlap_have_no_interval():
    found = probability_of_improvement([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == (1.0, None, None)
    assert not found.tells


def test_an_improvement_tells_when_the_interval_leaves_one_half():
    draw = np.random.default_rng(0)
    assert probability_of_improvement(draw.normal(2, 1, 20), draw.normal(0, 1, 20)).tells


def test_sides_with_other_tasks_are_refused():
    with pytest.raises(ValueError, match="same tasks: 3, 1"):
        probability_of_improvement(SCORES, SCORES[:, :1])


def test_normalising_goes_by_the_stated_anchors():
    assert normalised([20.0, 110.0, 200.0], low=20.0, high=200.0) == pytest.approx([0, 0.5, 1])
    by_task = normalised([[0.0, 10.0]], low=np.array([-10.0, 0.0]), high=np.array([10.0, 20.0]))
    assert by_task == pytest.approx(np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_anchors_that_are_none_are_refused(low, high):
    with pytest.raises(ValueError, match="two different finite scores"):
        normalised([1.0], low=low, high=high)
