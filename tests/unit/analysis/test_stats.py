from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raylottery.analysis.stats import (
    group_mean,
    paired_difference,
    seeds_needed,
    unpaired_difference,
)


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


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=9, unique=True),
    st.lists(st.integers(0, 1000), min_size=2, max_size=9, unique=True),
)
@settings(deadline=None, max_examples=60)
def test_an_unpaired_difference_is_scipys_welch_test(left, right):
    expected = scipy.stats.ttest_ind(left, right, equal_var=False)
    interval = expected.confidence_interval(0.95)
    found = unpaired_difference(left, right)
    assert found.mean == pytest.approx(np.mean(left) - np.mean(right), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.n == min(len(left), len(right))


def test_an_unpaired_difference_needs_two_of_each_and_some_spread():
    assert unpaired_difference([0.7], [0.5, 0.6]).low is None
    assert unpaired_difference([0.7, 0.7], [0.6, 0.6, 0.6]).low is None
    assert unpaired_difference([0.7, 0.7], [0.5, 0.6, 0.6]).low is not None


def test_a_bootstrap_t_interval_is_that_of_the_definition():
    found = paired_difference(LEFT, RIGHT, interval="bootstrap-t")
    difference = np.subtract(LEFT, RIGHT)
    again = np.random.default_rng(4).choice(difference, (20_000, 5))
    again = again[np.ptp(again, axis=1) > 0]  # 1 in 625 has an infinite t, on either side
    ts = (again.mean(axis=1) - difference.mean()) / scipy.stats.sem(again, axis=1)
    least, most = np.quantile(ts, [0.025, 0.975])
    error = scipy.stats.sem(difference)
    assert found.low == pytest.approx(difference.mean() - most * error, abs=0.1 * most * error)
    assert found.high == pytest.approx(difference.mean() - least * error, abs=-0.1 * least * error)
    assert found == paired_difference(LEFT, RIGHT, interval="bootstrap-t")


@given(st.lists(st.integers(-100, 100), min_size=4, max_size=12, unique=True))
@settings(deadline=None, max_examples=40)
def test_a_bootstrap_t_interval_leaves_zero_when_its_p_is_small(differences):
    found = paired_difference(differences, np.zeros(len(differences)), interval="bootstrap-t")
    if found.p is None:
        assert (found.low, found.high) == (None, None)
    elif abs(found.p - 0.05) > 0.001:
        assert found.tells == (found.p < 0.05)


def test_a_bootstrap_t_interval_of_three_pairs_has_no_end_and_is_left_out():
    found = paired_difference([0.61, 0.64, 0.60], [0.57, 0.56, 0.57], interval="bootstrap-t")
    assert (found.low, found.high, found.p, found.n) == (None, None, None, 3)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (2.0, 5)])
def test_the_seeds_needed_are_the_published_ones(effect, seeds):
    # Cohen's small, medium and large effects, as every table of paired t-tests has them.
    sample = np.array([-1.0, 0.0, 1.0])
    assert seeds_needed(sample + effect) == seeds
    assert seeds_needed(-sample - effect) == seeds


@pytest.mark.parametrize("tests", [1, 4])
def test_the_seeds_needed_give_the_power_asked_for(tests):
    sample = np.array([-1.0, 0.0, 1.0]) + 0.8
    needed = seeds_needed(sample, power=0.9, tests=tests)
    assert needed is not None
    draw = np.random.default_rng(0).normal(0.8, 1, (4000, needed))
    p = scipy.stats.ttest_1samp(draw, 0, axis=1).pvalue
    assert np.mean(p < 0.05 / tests) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1], [-1.0, 1.0], [-1.0, 1.001]])
def test_no_number_of_seeds_is_named_where_none_would_do(differences):
    assert seeds_needed(differences) is None
