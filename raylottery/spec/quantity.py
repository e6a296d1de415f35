"""Plain amounts with a unit: a time such as 30m, a size of memory such as 2GB.

They bound how a sweep is run and change no result, so they are in no key, and are kept as written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from raylottery.errors import did_you_mean


_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([A-Za-z]+)")


@dataclass(frozen=True)
class Quantity:
    """An amount as it was written; ValueError says what was expected."""

    UNITS: ClassVar[dict[str, int]]
    NOUN: ClassVar[str]
    EXAMPLE: ClassVar[str]

    text: str

    def __post_init__(self) -> None:
        match = _TEXT.fullmatch(self.text)
        if match is None:
            raise ValueError(f"{self.text[:40]!r} is no {self.NOUN}: {self._form()}.")
        if match[2] not in self.UNITS:
            known = did_you_mean(match[2], self.UNITS)
            raise ValueError(f"no unit of a {self.NOUN}: {match[2][:40]!r}. {known}")
        if self.amount < 1:
            raise ValueError(f"{self.text} is none at all: {self._form()}.")

    @classmethod
    def _form(cls) -> str:
        return f"a number and its unit ({', '.join(cls.UNITS)}), such as {cls.EXAMPLE}"

    @property
    def amount(self) -> int:
        """In the smallest unit, rounded down."""
        match = _TEXT.fullmatch(self.text)
        assert match is not None
        return int(Fraction(match[1]) * self.UNITS[match[2]])

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        form = core_schema.str_schema(pattern=rf"^[0-9]+(\.[0-9]+)?({'|'.join(cls.UNITS)})$")
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.to_string_ser_schema(when_used="always"),
            json_schema_input_schema=form,
        )

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError(f"{value!r:.40} is no {cls.NOUN}: {cls._form()}.")


class Duration(Quantity):
    """A time, in seconds."""

    UNITS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    NOUN = "duration"
    EXAMPLE = "30m"


class Memory(Quantity):
    """A size of memory, in bytes."""

    UNITS: ClassVar = {
        "B": 1,
        **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
        **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
    }
    NOUN = "size"
    EXAMPLE = "2GB"
