"""Names from outside cannot lead out of their folder."""

from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.errors import UsageError
from raylottery.store import layout


KEY = "0123456789abcdef" * 2


def test_paths_are_those_of_the_contract():
    assert layout.record(KEY) == f"rounds/01/{KEY}/record.json"
    assert layout.round_file(KEY, "1-ab/curve.parquet") == f"rounds/01/{KEY}/1-ab/curve.parquet"
    assert layout.aside(KEY) == f"rounds/01/{KEY}/aside.safetensors"
    assert layout.failure(KEY, 2) == f"rounds/01/{KEY}/failures/2.json"
    assert layout.sweep_file("s") == "sweeps/s/sweep.yaml"
    assert layout.table("a.b-c_d", "rounds") == "sweeps/a.b-c_d/rounds.parquet"
    assert layout.analysis("s", "size") == "sweeps/s/analyses/size.parquet"
    assert layout.log("s", KEY[:12]) == "sweeps/s/logs/0123456789ab.log"


def test_snapshots_lie_under_trunk_and_step():
    place = layout.snapshot(KEY, 35)
    assert place == "snapshots/70/709067a6cf335dec76a48bb7726d84be.safetensors"
    assert len({place, layout.snapshot(KEY, 36), layout.snapshot(KEY[::-1], 35)}) == 3


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a..b", "a b", "a\n", "é", "x" * 65])
def test_unsafe_sweep_names_are_usage_errors(name):
    with pytest.raises(UsageError, match="cannot be the name of a sweep"):
        layout.sweep_file(name, "rounds.parquet")


@pytest.mark.parametrize(
    "key", ["", "..", KEY.upper(), KEY[:-1], KEY + "0", KEY[:-1] + "\n", "../" * 10]
)
def test_what_is_no_key_has_no_place(key):
    for place in (layout.record, layout.aside, layout.lease, layout.failures, layout.takeovers):
        with pytest.raises(ValueError, match="no place in a store"):
            place(key)
    assert not layout.is_key(key)
    assert layout.is_key(KEY)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=80), st.from_regex(r"[A-Za-z0-9._/-]{0,70}", fullmatch=True)))
def test_a_name_is_refused_or_stays_a_single_visible_part(name):
    try:
        path = layout.sweep_folder(name)
    except UsageError:
        return
    assert posixpath.normpath(path) == path == f"sweeps/{name}"
    assert re.fullmatch(r"sweeps/[^./][^/]*", path)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=80), st.from_regex(r"[a-z0-9._/-]{0,40}", fullmatch=True)))
def test_a_round_file_is_refused_or_stays_in_its_round(path):
    try:
        place = layout.round_file(KEY, path)
    except ValueError:
        return
    assert posixpath.normpath(place) == place
    assert place.startswith(layout.round_folder(KEY) + "/")
