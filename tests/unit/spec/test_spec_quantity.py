"""Times and sizes of memory: how they are written, and what they come to."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec import Duration, Memory, dump_sweep, parse_sweep
from tests.unit.spec.samples import STUDY, altered


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        (Duration("90s"), 90),
        (Duration("30m"), 1800),
        (Duration("1.5h"), 5400),
        (Duration("2d"), 172800),
        (Memory("2GB"), 2 * 10**9),
        (Memory("2GiB"), 2 * 2**30),
        (Memory("0.5MB"), 500_000),
        (Memory("1.1B"), 1),
    ],
)
def test_an_amount_is_in_seconds_or_bytes(quantity, amount):
    assert quantity.amount == amount


@given(st.text(max_size=12))
@settings(deadline=None, max_examples=200)
def test_any_text_is_an_amount_or_a_value_error(text):
    for kind in (Duration, Memory):
        with contextlib.suppress(ValueError):
            assert kind(text).amount >= 1


def test_what_a_sweep_says_is_kept_as_it_was_written():
    text = altered(("gpus: 0}", "memory: 1.50GB}"), ("retries: 3", "timeout: 90s"))
    sweep = parse_sweep(text)
    again = parse_sweep(dump_sweep(sweep))
    assert again == sweep
    assert str(again.resources.memory) == "1.50GB"
    assert str(again.timeout) == "90s"
    plain = parse_sweep(STUDY)
    assert (plain.timeout, plain.resources.memory) == (None, None)


def test_memory_may_follow_an_axis():
    zipped = "  zip: {trainer.model: [mlp-8, mlp-16], resources.memory: [1GB, 2GB]}"
    sweep = parse_sweep(altered(("  prune.scope: [global, layerwise]", zipped)))
    assert sweep.axes["zip"]["resources.memory"] == ("1GB", "2GB")
