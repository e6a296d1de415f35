"""What the intervals promise, measured on 2,000 studies whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from raylottery.analysis.stats import (
    Estimate,
    critical_density,
    group_mean,
    holm,
    paired_difference,
    permutation_p,
    stratified_iqm,
    unpaired_difference,
)


STUDIES = 2000
TRUTH = 0.02


def studies(
    n: int, *, effect: float = TRUTH, skewed: bool = False, count: int = STUDIES
) -> tuple[np.ndarray, np.ndarray]:
    """Arms whose seeds share about three quarters of their variance and differ by `effect`."""
    draw, size = np.random.default_rng(20190305 + n), (count, n)
    shared = draw.normal(0.6, 0.05, size)
    noise = draw.lognormal(0, 0.5, (2, *size)) if skewed else draw.normal(0, 1, (2, *size))
    return shared + effect + 0.03 * noise[0], shared + 0.03 * noise[1]


def ends(found: Iterable[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper ends of all intervals; NaN where there is none."""
    low, high = np.array([(one.low, one.high) for one in found], dtype=float).T
    return low, high


def coverage(found: Iterable[Estimate], truth: float) -> float:
    low, high = ends(found)
    return float(np.mean((low <= truth) & (truth <= high)))


def least(ps: Sequence[float | None]) -> float:
    return min(p for p in ps if p is not None)


@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "skewed"])
@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_the_default_interval_holds_the_truth_as_often_as_it_says(n, skewed):
    sides = studies(n, skewed=skewed)
    found = [paired_difference(*pair) for pair in zip(*sides, strict=True)]
    assert 0.93 <= coverage(found, TRUTH) <= 0.97


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_a_group_and_an_unpaired_difference_hold_theirs(n):
    draw = np.random.default_rng(n)
    left, right = draw.normal(0.6, 0.05, (2, STUDIES, n))
    assert 0.93 <= coverage(map(group_mean, left), 0.6) <= 0.97
    found = [unpaired_difference(*pair) for pair in zip(left + TRUTH, right, strict=True)]
    # Welch's degrees of freedom are estimated, which errs to the safe side with three seeds.
    assert 0.93 <= coverage(found, TRUTH) <= 0.98


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_no_effect_is_called_a_difference_in_six_of_a_hundred_at_most(n):
    # Of 2,000 studies at a true 5 %, one batch in fifty counts more than 6 %; of 8,000 none does.
    values, references = studies(n, effect=0.0, count=8000)
    pairs = list(zip(values, references, strict=True))
    assert np.mean([paired_difference(*pair).tells for pair in pairs]) <= 0.06
    assert np.mean([unpaired_difference(*pair).tells for pair in pairs]) <= 0.06


def test_sign_flips_call_no_effect_in_at_most_six_of_a_hundred():
    values, references = studies(8, effect=0.0, skewed=True)
    ps = [permutation_p(difference) for difference in values - references]
    assert np.mean([p < 0.05 for p in ps if p is not None]) <= 0.06


def test_holm_keeps_the_false_calls_of_a_family_where_one_has_them():
    draw = np.random.default_rng(11)
    values = draw.normal(0, 1, (STUDIES, 6, 5))
    ps = [[paired_difference(density, 0 * density).p for density in study] for study in values]
    assert np.mean([least(study) < 0.05 for study in ps]) > 0.2
    assert np.mean([least(holm(study)) < 0.05 for study in ps]) <= 0.06


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_pairing_narrows_the_interval_where_pairs_correlate(n):
    values, references = studies(n)
    paired, unpaired = (
        np.subtract(*ends(map(estimate, values, references))[::-1])
        for estimate in (paired_difference, unpaired_difference)
    )
    assert np.mean(paired) < np.mean(unpaired)
    assert np.mean(paired < unpaired) > 0.6


def test_the_bootstrap_t_holds_the_truth_from_five_pairs_on():
    values, references = (side[:1000] for side in studies(5))
    pairs = zip(values, references, strict=True)
    found = [paired_difference(*pair, interval="bootstrap-t") for pair in pairs]
    assert 0.93 <= coverage(found, TRUTH) <= 0.97


def test_percentiles_of_few_runs_hold_too_little_and_of_many_enough():
    draw = np.random.default_rng(5)
    few, many = (draw.normal(0, 1, (1000, n)) for n in (3, 30))
    assert coverage((stratified_iqm(runs, resamples=500) for runs in few), 0.0) < 0.8
    assert coverage((stratified_iqm(runs, resamples=500) for runs in many), 0.0) > 0.92


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_the_interval_of_the_critical_density_holds_it(n):
    draw = np.random.default_rng(n)
    densities, loss = 0.8 ** np.arange(0, 16, 2), 3 * np.linspace(0, 1, 8) ** 3
    truth = critical_density(densities, np.array([-loss]), margin=0.5).density
    scores = 2 * draw.normal(size=(STUDIES, n, 1)) - loss + draw.normal(size=(STUDIES, n, 8))
    found = [critical_density(densities, study, margin=0.5) for study in scores]
    held = [(one.low or 0.0) <= truth <= (one.high or 0.0) for one in found]
    assert 0.94 <= np.mean(held) <= 0.99
