"""A length with its unit, such as 500it, 2ep or 5%.

People write extents; keys and trainers see steps. Whoever makes a key resolves every extent first,
so that one length written in two ways is one length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


UNITS = {
    "it": "updates",
    "ep": "epochs",
    "ts": "environment steps",
    "sync": "target syncs",
    "%": "percent of the training",
}
FRACTIONAL = {"ep", "%"}
DECIMALS = 9
_TEXT = re.compile(rf"([0-9]{{1,15}}(?:\.[0-9]{{1,{DECIMALS}}})?)([A-Za-z%]+)")
_EXAMPLES = "a number and its unit, such as 500it, 2ep or 5%"


@dataclass(frozen=True)
class Extent:
    """A length: `amount` of `unit`."""

    amount: Fraction
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            known = ", ".join(f"{unit} ({meaning})" for unit, meaning in UNITS.items())
            raise ValueError(f"no such unit: {self.unit[:40]!r}. Units: {known}.")
        if self.amount < 0:
            raise ValueError(f"an extent cannot be negative: {self.amount}{self.unit}.")
        if self.unit not in FRACTIONAL and self.amount != int(self.amount):
            raise ValueError(
                f"{UNITS[self.unit]} ({self.unit}) come in whole numbers, not "
                f"{float(self.amount):g}; only ep and % may have decimals."
            )
        if (Fraction(self.amount) * 10**DECIMALS).denominator != 1:
            raise ValueError(f"an extent has at most {DECIMALS} decimals, not {self.amount}.")

    @classmethod
    def parse(cls, text: str) -> Extent:
        """The extent that `text` says; ValueError says what was expected."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:40]!r} is no extent: {_EXAMPLES}.")
        return cls(Fraction(match[1]), match[2])

    def __str__(self) -> str:
        whole, rest = divmod(int(self.amount * 10**DECIMALS), 10**DECIMALS)
        decimals = f".{rest:0{DECIMALS}}".rstrip("0") if rest else ""
        return f"{whole}{decimals}{self.unit}"

    def steps(self, units: Mapping[str, Fraction | int], total: int | None) -> int:
        """The extent in steps, half a step rounded up.

        Args:
            units: steps per unit, for the units that the trainer knows.
            total: the whole training in steps, of which % is a part; None where % means nothing.
        """
        if self.unit == "%" and total is not None:
            per = Fraction(total, 100)
        elif self.unit in units:
            per = units[self.unit]
        else:
            known = [*units] if total is None else [*units, "%"]
            raise ValueError(
                f"{self} is in {UNITS[self.unit]}, which cannot be counted here. "
                f"Units: {', '.join(known)}."
            )
        # In whole numbers, for a large sweep asks for it tens of thousands of times.
        steps = self.amount.numerator * per.numerator
        parts = self.amount.denominator * per.denominator
        return (2 * steps + parts) // (2 * parts)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.to_string_ser_schema(when_used="always"),
            json_schema_input_schema=core_schema.str_schema(pattern=f"^{_TEXT.pattern}$"),
        )

    @classmethod
    def _validate(cls, value: object) -> Extent:
        if isinstance(value, Extent):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        raise ValueError(f"{value!r:.40} is no extent: {_EXAMPLES}.")
