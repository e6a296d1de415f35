from __future__ import annotations

import enum
import hashlib
import json
import math
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen, canonical, determinants, fingerprint
from raylottery.spec.problems import StrictModel
from raylottery.spec.seeds import derive_seed


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(part) for key, part in reversed(list(value.items()))}
    if isinstance(value, list):
        return [reordered(part) for part in value]
    return value


@given(values)
@settings(deadline=None, max_examples=200)
def test_the_order_of_keys_means_nothing(value):
    assert fingerprint(reordered(value)) == fingerprint(value)


@given(values)
@settings(deadline=None, max_examples=200)
def test_the_canonical_form_is_json_of_the_same_value(value):
    text = canonical(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


@given(values, values)
@settings(deadline=None, max_examples=200)
def test_what_differs_in_json_differs_in_its_fingerprint(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (canonical(one) == canonical(other))


def wrapped(bad):
    """`bad` inside lists and mappings."""
    return st.recursive(
        bad,
        lambda inner: (
            st.builds(lambda v: [0, v], inner) | st.builds(lambda v: {"a": 0, "b": v}, inner)
        ),
        max_leaves=3,
    )


@given(
    wrapped(
        st.sampled_from([math.nan, math.inf, -math.inf]).map(lambda v: v)
        | st.sets(st.integers(), max_size=2)
        | st.binary(max_size=3)
        | st.builds(object)
        | st.dictionaries(st.integers() | st.none() | st.booleans(), scalars, min_size=1)
    )
)
@settings(deadline=None, max_examples=200)
def test_what_has_no_stable_form_is_refused(value):
    with pytest.raises(TypeError, match=r"^value"):
        fingerprint(value)


class Colour(enum.StrEnum):
    RED = "red"


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, math.nan]}, "value.a[1] is nan, which has no stable form in a key."),
        ({"a": {"b": {1}}}, "value.a.b is of type set, which has no stable form in a key."),
        ([{2: "x"}], "value[0] has the key 2; only text can be a key."),
        (Colour.RED, "value is of type Colour, which has no stable form in a key."),
        (Name("x"), "value is of type Name, which has no stable form in a key."),
        ([np.float64(1)], "value[0] is of type float64, which has no stable form in a key."),
        (
            {"t": Extent.parse("1ep")},
            "value.t is of type Extent, which has no stable form in a key.",
        ),
    ],
)
def test_the_refusal_names_the_place(value, message):
    with pytest.raises(TypeError) as caught:
        canonical(value)
    assert str(caught.value) == message


def test_a_value_inside_itself_is_refused():
    loop: list = [1]
    loop.append({"again": loop})
    with pytest.raises(TypeError, match=r"value\[1\].again contains itself"):
        canonical(loop)


def test_one_value_twice_is_no_loop():
    part = [1]
    assert canonical([part, part]) == "[[1],[1]]"


def test_the_canonical_text():
    assert canonical({"b": (1, 2.0), "a": -0.0, "é": True, "c": 1e-05, "d": None}) == (
        '{"a":0.0,"b":[1,2.0],"c":1e-05,"d":null,"\\u00e9":true}'
    )


def test_a_fingerprint_is_the_head_of_a_sha256():
    digest = hashlib.sha256(b'{"a":1}').hexdigest()
    assert fingerprint({"a": 1}) == digest[:32]
    assert fingerprint({"a": 1}, length=12) == digest[:12]


def test_types_that_print_alike_stay_apart():
    assert len({fingerprint(v) for v in (1, 1.0, True, "1", [1], None, "null")}) == 7


class Base(StrictModel):
    lr: float = 0.1
    length: Extent = Extent.parse("2ep")
    momentum: Annotated[float, Frozen(0.0)] = 0.0
    warmup: Annotated[Extent, Frozen(Extent.parse("0it"))] = Extent.parse("0it")
    flag: Annotated[bool, Frozen(False)] = False


class Changed(Base):
    momentum: Annotated[float, Frozen(0.0)] = 0.9


class Outer(StrictModel):
    inner: Base = Base()
    many: tuple[Extent, ...] = (Extent.parse("1it"), Extent.parse("1ep"))


def steps(extent: Extent) -> int:
    return extent.steps({"it": 1, "ep": 35}, 100)


def test_determinants_are_all_fields_but_those_at_their_frozen_value():
    assert determinants(Base(), steps) == {"lr": 0.1, "length": 70}
    assert determinants(Base(momentum=0.5, flag=True), steps) == {
        "lr": 0.1,
        "length": 70,
        "momentum": 0.5,
        "flag": True,
    }


def test_frozen_extents_are_compared_as_steps():
    assert "warmup" not in determinants(Base(warmup=Extent.parse("0%")), steps)
    assert determinants(Base(warmup=Extent.parse("1ep")), steps)["warmup"] == 35


def test_the_frozen_value_counts_and_not_the_default():
    assert determinants(Changed(), steps)["momentum"] == 0.9
    assert "momentum" not in determinants(Changed(momentum=0.0), steps)


def test_determinants_go_into_sections_and_lists():
    assert determinants(Outer(), steps) == {"inner": {"lr": 0.1, "length": 70}, "many": [1, 35]}


def test_seeds_are_63_bits_of_the_named_fingerprint():
    digest = hashlib.sha256(b'["data",3,1,0]').hexdigest()
    assert derive_seed("data", 3, 1, 0) == int(digest[:16], 16) >> 1
    assert derive_seed("data", 3, 1, 0) < 2**63


def test_seeds_of_different_names_differ():
    parts = [("weights", 0), ("weights", 1), ("data", 0), ("data", 0, 1), ("data", "0"), ("01",)]
    assert len({derive_seed(*part) for part in parts}) == len(parts)


@pytest.mark.parametrize("part", [1.0, True, None, (1,), np.int64(1)])
def test_seeds_come_from_whole_numbers_and_names(part):
    with pytest.raises(TypeError, match="whole numbers and names"):
        derive_seed("data", part)
