from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from raylottery.analysis.stats import Critical, critical_density


DENSITIES = [1.0, 0.5, 0.25, 0.125]
SCORES = np.array(
    [
        [0.90, 0.91, 0.89, 0.70],
        [0.92, 0.91, 0.90, 0.74],
        [0.88, 0.89, 0.88, 0.66],
    ]
)


def ends(found: Critical) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_it_lies_between_rounds_in_log_density():
    # Mean losses are 0, -1/300, 0.01 and 0.2: a margin of 0.105 is half way from 0.25 to 0.125.
    found = critical_density(DENSITIES, SCORES, margin=0.105)
    assert found.density == pytest.approx(np.sqrt(0.25 * 0.125))
    assert (found.n, found.beyond) == (3, False)
    low, high = ends(found)
    assert low < found.density < high


def test_its_ends_are_where_students_interval_leaves_the_margin():
    found = critical_density(DENSITIES, SCORES, margin=0.1)
    losses = SCORES[:, :1] - SCORES
    for side, end in enumerate(ends(found)):
        bounds = [
            scipy.stats.ttest_1samp(losses[:, k], 0).confidence_interval()[side] for k in (2, 3)
        ]
        share = np.log(0.25 / end) / np.log(2)
        assert np.interp(share, [0, 1], bounds) == pytest.approx(0.1)


def test_the_order_of_the_densities_does_not_matter():
    order = [2, 0, 3, 1]
    shuffled = critical_density(np.array(DENSITIES)[order], SCORES[:, order], margin=0.1)
    assert shuffled == critical_density(DENSITIES, SCORES, margin=0.1)


def test_a_score_that_recovers_has_left_all_the_same():
    scores = np.array([[0.9, 0.7, 0.9], [0.8, 0.6, 0.81]])
    assert critical_density([1.0, 0.5, 0.25], scores, margin=0.1).density > 0.5


def test_a_score_that_never_leaves_is_beyond_what_was_measured():
    found = critical_density(DENSITIES[:3], SCORES[:, :3], margin=0.1)
    assert (found.density, found.low, found.high, found.beyond) == (0.25, None, 0.25, True)


def test_few_noisy_seeds_leave_the_lower_end_open():
    scores = np.array([[0.9, 0.89, 0.85], [0.9, 0.7, 0.9], [0.9, 0.9, 0.5]])
    found = critical_density([1.0, 0.5, 0.25], scores, margin=0.05)
    assert not found.beyond
    assert found.low is None
    assert found.high is not None
    assert found.high > found.density


def test_one_seed_has_a_critical_density_and_no_interval():
    found = critical_density(DENSITIES, SCORES[:1], margin=0.1)
    assert 0.125 < found.density < 0.25
    assert (found.low, found.high, found.n) == (None, None, 1)


def test_seeds_that_all_lose_the_same_have_no_interval():
    found = critical_density([1.0, 0.5], [[0.9, 0.7], [0.8, 0.6]], margin=0.1)
    assert (found.low, found.high, found.n) == (None, None, 2)


def test_a_seed_is_followed_down_to_its_first_missing_score():
    scores = SCORES.copy()
    scores[0, 3] = scores[1, 2] = np.nan
    found = critical_density(DENSITIES, scores, margin=0.1)
    assert found.n == 1  # the third seed alone reaches the lowest density without a gap
    assert found.low is None
    assert critical_density(DENSITIES, scores, margin=0.004).n == 2


def test_a_seed_without_a_dense_score_is_left_out():
    scores = SCORES.copy()
    scores[1, 0] = np.nan
    expected = critical_density(DENSITIES, SCORES[[0, 2]], margin=0.1)
    assert critical_density(DENSITIES, scores, margin=0.1) == expected
    with pytest.raises(ValueError, match="dense score"):
        critical_density([1.0, 0.5], [[np.nan, 0.7]], margin=0.1)


def test_no_margin_is_a_gain():
    with pytest.raises(ValueError, match="and not"):
        critical_density(DENSITIES, SCORES, margin=-0.1)


def test_no_loss_at_all_counts_where_the_margin_is_zero():
    scores = np.array([[0.9, 0.9, 0.8], [0.7, 0.7, 0.65]])
    assert critical_density([1.0, 0.5, 0.25], scores, margin=0.0).density == 0.5
