from __future__ import annotations

import contextlib
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from raylottery.spec.extent import Extent


ALL_UNITS = (
    "Units: it (updates), ep (epochs), ts (environment steps), sync (target syncs), "
    "% (percent of the training)."
)
whole = st.integers(0, 10**15 - 1)
texts = st.one_of(
    st.builds("{}{}".format, whole, st.sampled_from(["it", "ep", "ts", "sync", "%"])),
    st.builds("{}.{}{}".format, whole, st.integers(0, 10**9 - 1), st.sampled_from(["ep", "%"])),
)


@given(texts)
@settings(deadline=None, max_examples=200)
def test_extents_round_trip(text):
    extent = Extent.parse(text)
    assert Extent.parse(str(extent)) == extent
    number, unit = text.rstrip("itepsync%"), extent.unit
    assert text == number + unit
    assert extent.amount == Fraction(Decimal(number))
    assert len(str(extent)) <= len(text)


@given(st.text(max_size=12))
@settings(deadline=None, max_examples=200)
def test_any_text_is_an_extent_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert Extent.parse(text).amount >= 0


@given(whole, st.integers(1, 10**6))
@settings(deadline=None, max_examples=100)
def test_steps_are_exact_where_floats_are_not(amount, per_epoch):
    units = {"it": Fraction(1), "ep": Fraction(per_epoch)}
    assert Extent.parse(f"{amount}ep").steps(units, None) == amount * per_epoch
    assert Extent.parse(f"{amount}it").steps(units, None) == amount


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("500it", "500it"), ("007it", "7it"), ("1.50ep", "1.5ep"), ("2.0ep", "2ep"), ("5%", "5%")],
)
def test_the_canonical_text(text, canonical):
    assert str(Extent.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "total", "steps"),
    [
        ("35it", None, 35),
        ("1ep", None, 35),
        ("0.5ep", None, 18),  # 17.5, half a step up
        ("0.01ep", None, 0),
        ("5%", 525, 26),  # 26.25
        ("10%", 525, 53),  # 52.5, half a step up
        ("100%", 525, 525),
        ("0%", 525, 0),
        ("33.3%", 1000, 333),
    ],
)
def test_steps_round_half_up(text, total, steps):
    assert Extent.parse(text).steps({"it": 1, "ep": 35}, total) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10000ts", "10000ts is in environment steps, which cannot be counted here. "
                    "Units: it, ep."),
        ("5%", "5% is in percent of the training, which cannot be counted here. "
               "Units: it, ep."),
    ],
)  # fmt: skip
def test_units_that_a_trainer_does_not_know(text, message):
    with pytest.raises(ValueError, match="cannot be counted") as caught:
        Extent.parse(text).steps({"it": 1, "ep": 35}, None)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("500", "'500' is no extent: a number and its unit, such as 500it, 2ep or 5%."),
        ("-1it", "'-1it' is no extent: a number and its unit, such as 500it, 2ep or 5%."),
        ("500its", "no such unit: 'its'. " + ALL_UNITS),
        ("3epochs", "no such unit: 'epochs'. " + ALL_UNITS),
        ("1.5it", "updates (it) come in whole numbers, not 1.5; only ep and % may have decimals."),
        ("1.5sync", "target syncs (sync) come in whole numbers, not 1.5; "
                    "only ep and % may have decimals."),
    ],
)  # fmt: skip
def test_texts_that_are_no_extent(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Extent.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("amount", "unit"), [(Fraction(1, 3), "ep"), (Fraction(-1), "it"), (Fraction(1), "days")]
)
def test_an_extent_without_a_text_cannot_be_made(amount, unit):
    with pytest.raises(ValueError, match=r"decimals|negative|no such unit"):
        Extent(amount, unit)


class Holder(BaseModel):
    model_config = ConfigDict(strict=True)
    length: Extent


def test_pydantic_reads_and_writes_the_text():
    holder = Holder(length="1.50ep")  # ty: ignore[invalid-argument-type]
    assert holder.length == Extent(Fraction(3, 2), "ep")
    assert holder.model_dump() == {"length": "1.5ep"}
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    assert Holder(length=holder.length) == holder
    assert Holder.model_json_schema()["properties"]["length"]["type"] == "string"


@pytest.mark.parametrize("value", [500, 1.5, True, None, ["1ep"], {"ep": 1}])
def test_pydantic_refuses_what_is_not_text(value):
    with pytest.raises(ValidationError, match="is no extent"):
        Holder(length=value)
