from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raylottery.analysis.stats import group_mean, paired_difference


LEFT = [0.612, 0.634, 0.598, 0.641, 0.607]
RIGHT = [0.571, 0.566, 0.570, 0.585, 0.559]


def test_a_group_has_the_interval_scipy_gives():
    estimate = group_mean(LEFT)
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(LEFT), scipy.stats.sem(LEFT))
    assert estimate.mean == pytest.approx(0.6184, abs=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-12)
    assert estimate.n == 5


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=12))
@settings(deadline=None, max_examples=60)
def test_a_paired_difference_is_scipys_paired_t_test(pairs):
    left, right = np.array(pairs).T / 1000
    assume(len({a - b for a, b in pairs}) > 1)
    expected = scipy.stats.ttest_rel(left, right)
    interval = expected.confidence_interval(0.95)
    found = paired_difference(left, right)
    assert found.mean == pytest.approx(np.mean(left - right), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.n == len(pairs)


def test_pairing_sees_what_the_groups_hide():
    left, right = np.array([0.50, 0.60, 0.70, 0.80]), np.array([0.49, 0.588, 0.691, 0.789])
    assert scipy.stats.ttest_ind(left, right).pvalue > 0.9
    found = paired_difference(left, right)
    assert found.tells
    assert found.p == pytest.approx(scipy.stats.ttest_rel(left, right).pvalue, rel=1e-9)
    assert (found.low, found.high) == (
        pytest.approx(0.0084, abs=1e-4),
        pytest.approx(0.0126, abs=1e-4),
    )


def test_one_pair_has_no_interval():
    found = paired_difference([0.7], [0.6])
    assert (found.low, found.high, found.p, found.n) == (None, None, None, 1)
    assert found.mean == pytest.approx(0.1)
    assert not found.tells


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_equal_differences_show_no_spread_and_get_no_interval(shift):
    references = np.array([0.3, 0.6, 0.9])
    values = references + shift  # which differ from each other in the last bit
    found = paired_difference(values, references)
    assert (found.low, found.high, found.p, found.n) == (None, None, None, 3)
    assert found.mean == pytest.approx(shift)


def test_a_group_of_equal_values_has_no_interval():
    assert group_mean([500.0, 500.0, 500.0]).low is None


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="3 values, 2 references"):
        paired_difference([1, 2, 3], [1, 2])


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds):
    draw = np.random.default_rng(20190305)
    truth, repetitions = 0.02, 3000
    shared = draw.normal(0.6, 0.05, (repetitions, seeds))
    values = shared + truth + draw.normal(0, 0.01, (repetitions, seeds))
    found = [paired_difference(*sides) for sides in zip(values, shared, strict=True)]
    low, high = np.array([(one.low, one.high) for one in found]).T
    covered = np.mean((low <= truth) & (truth <= high))
    assert 0.938 <= covered <= 0.962


def test_no_difference_is_called_one_in_five_of_a_hundred():
    draw = np.random.default_rng(7)
    sides = draw.normal(0.6, 0.02, (3000, 2, 5))
    called = np.mean([paired_difference(*pair).tells for pair in sides])
    assert 0.038 <= called <= 0.062
