from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.analysis.stats import group_median, holm, permutation_p


DIFFERENCES = [0.041, 0.068, 0.028, 0.056, -0.048, 0.013, 0.022, -0.004]


@pytest.mark.parametrize("n", [6, 7, 8])
def test_sign_flips_are_scipys_exact_permutation_test(n):
    expected = scipy.stats.permutation_test(
        (DIFFERENCES[:n],), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert permutation_p(DIFFERENCES[:n]) == pytest.approx(expected.pvalue, rel=1e-12)


@given(st.lists(st.integers(-50, 50), min_size=6, max_size=13))
@settings(deadline=None, max_examples=40)
def test_sign_flips_count_every_choice_of_signs(differences):
    n = len(differences)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums = np.abs(signs @ np.array(differences))
    assert permutation_p(differences) == pytest.approx(np.mean(sums >= abs(sum(differences))))


def test_fewer_than_six_pairs_have_no_sign_flips():
    assert permutation_p([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert permutation_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 / 2**6


def test_sign_flips_see_ties_through_rounding():
    assert permutation_p([0.1, 0.2, 0.3, -0.1, -0.2, -0.3]) == 1.0
    assert permutation_p([0.0] * 6) == 1.0


def test_many_pairs_are_flipped_at_random_and_agree_with_t():
    sample = np.random.default_rng(3).normal(0.3, 1, 60)
    p = permutation_p(sample)
    assert p == permutation_p(sample)
    assert p == pytest.approx(scipy.stats.ttest_1samp(sample, 0).pvalue, abs=0.005)


def test_forty_pairs_are_still_exact():
    assert permutation_p([1.0] * 40) == 2 / 2**40


def test_holm_on_the_textbook_example():
    # Holm (1979): the smallest of m is multiplied by m, the next by m - 1, and none may fall.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_its_step_down_does(ps, level):
    rejected = set()
    for rank, place in enumerate(np.argsort(ps, kind="stable")):
        if ps[place] > level / (len(ps) - rank):
            break
        rejected.add(int(place))
    corrected = holm(ps)
    unclear = {k for k, p in enumerate(corrected) if abs(p - level) < 1e-12}
    assert {k for k, p in enumerate(corrected) if p <= level} - unclear == rejected - unclear
    assert all(after >= before for after, before in zip(corrected, ps, strict=True))


@given(st.lists(st.integers(-1000, 1000), min_size=6, max_size=40, unique=True))
@settings(deadline=None, max_examples=40)
def test_the_interval_of_a_median_is_scipys(values):
    expected = scipy.stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    found = group_median(values)
    assert found.mean == np.median(values)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.n == len(values)


def test_the_median_of_five_has_no_interval():
    assert group_median([1, 2, 3, 4, 5]).low is None
    assert (group_median(range(1, 7)).low, group_median(range(1, 7)).high) == (1, 6)
    assert group_median([500.0] * 10).low is None
