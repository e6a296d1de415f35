"""Counts worked out by hand, from shapes alone."""

from __future__ import annotations

from fractions import Fraction
from math import prod

from raylottery.sizes.counts import erk_counts


def test_erk_counts_are_proportional_to_the_sum_of_dimensions():
    """Shares worked out by hand: 114 = 114 / 228 of the sums 28 + 100 + 70 + 30."""
    layers = {"a": (20, 8), "b": (60, 40), "c": (50, 20), "out": (20, 10)}
    sizes = {name: prod(shape) for name, shape in layers.items()}
    assert erk_counts(layers, sizes, 114) == {"a": 14, "b": 50, "c": 35, "out": 15}


def test_erk_rounds_by_largest_remainder_ties_in_layer_order():
    """Shares of 7/30, 10/30 and 13/30: the cut-off parts decide who gets the entries left over."""
    layers = {"a": (3, 4), "b": (5, 5), "c": (6, 7)}
    sizes = {name: prod(shape) for name, shape in layers.items()}
    assert erk_counts(layers, sizes, 19) == {"a": 5, "b": 6, "c": 8}
    assert erk_counts(layers, sizes, 22) == {"a": 5, "b": 7, "c": 10}
    assert erk_counts(layers, sizes, 20) == {"a": 5, "b": 7, "c": 8}


def test_erk_counts_the_kernel_of_convolutions():
    layers = {"conv": (16, 8, 3, 3), "fc": (10, 20)}
    sizes = {name: prod(shape) for name, shape in layers.items()}
    assert erk_counts(layers, sizes, 60) == {"conv": 30, "fc": 30}


def test_erk_solves_again_when_a_layer_saturates():
    """Clamping at dense without solving again falls short of the target (here by 4.67)."""
    layers = {"small": (2, 2), "large": (10, 10)}
    assert erk_counts(layers, {"small": 4, "large": 100}, 52) == {"small": 4, "large": 48}


def test_erk_solves_again_when_saturation_cascades():
    """`b` fits its first share (43.4 of 45) but not the one it gets once `a` is dense (45.2)."""
    layers = {"a": (1, 3), "b": (5, 9), "c": (30, 30)}
    sizes = {name: prod(shape) for name, shape in layers.items()}
    assert 43 < Fraction(242 * 14, 78) < 45 < Fraction((242 - 3) * 14, 78 - 4)
    assert erk_counts(layers, sizes, 242) == {"a": 3, "b": 45, "c": 194}


def test_erk_keeps_at_most_the_present_survivors():
    layers = {"a": (10, 10), "b": (10, 10)}
    assert erk_counts(layers, {"a": 5, "b": 100}, 60) == {"a": 5, "b": 55}


def test_erk_of_all_or_none_is_all_or_none():
    layers, sizes = {"a": (2, 3), "b": (4, 4)}, {"a": 6, "b": 16}
    assert erk_counts(layers, sizes, 22) == sizes
    assert erk_counts(layers, sizes, 0) == {"a": 0, "b": 0}
