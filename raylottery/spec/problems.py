"""What is wrong with a spec, by key, in words that say what was expected.

Validators raise `Problems` where one check finds several faults, or where a fault lies deeper than
the field that is checked; `explain` turns everything that pydantic found into problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from raylottery.errors import did_you_mean


class StrictModel(BaseModel):
    """A part of a sweep file: immutable, no unknown fields, no value taken for another type."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One fault: the key where it lies, and what to do about it."""

    key: Key
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.key)}: {self.text}" if self.key else self.text


class Problems(ValueError):
    """Faults at keys below the one that is checked."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def dotted(key: Key) -> str:
    """A key as people write it: `axes.prune.scope[1]`."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in key
    ).removeprefix(".")


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every fault that pydantic found in a `model`, without those that follow from another."""
    found: list[tuple[str, Problem]] = []
    for fault in error.errors(include_url=False):
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, Problems):
            found += [
                (fault["type"], Problem((*fault["loc"], *problem.key), problem.text))
                for problem in cause.problems
            ]
        else:
            found.append((fault["type"], Problem(fault["loc"], _explain(fault, model))))
    misspelt = {
        (*problem.key[:-1], name)
        for kind, problem in found
        if kind == "extra_forbidden"
        for name in section_at(model, problem.key[:-1]).model_fields
        if problem.text.endswith(f"Did you mean {name!r}?")
    }
    # Pydantic also calls a list too short when its only entry was refused.
    refused = {problem.key[:-1] for _, problem in found}
    return [
        problem
        for kind, problem in found
        if not (kind == "missing" and problem.key in misspelt)
        and not (kind == "too_short" and problem.key in refused)
    ]


def section_at(model: type[BaseModel], key: Key) -> type[BaseModel]:
    """The model of the section at `key`."""
    for part in key:
        inner = section(model.model_fields[str(part)])
        assert inner is not None
        model = inner
    return model


def section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, or None."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _explain(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind, given, limits = fault["type"], shown(fault["input"]), fault.get("ctx", {})
    *above, name = fault["loc"] or ("",)
    if kind == "extra_forbidden":
        return f"no such field. {did_you_mean(name, section_at(model, tuple(above)).model_fields)}"
    field = _field_at(model, fault["loc"])
    if kind == "missing":
        return f"missing, and it has no default.{_help(field)}"
    if kind == "literal_error" and field is not None:
        return (
            f"no such value: {given}. {did_you_mean(fault['input'], get_args(field.annotation))}"
        )
    if kind == "value_error":
        return str(limits["error"])
    if kind in _BOUNDS:
        name, side = _BOUNDS[kind]
        return f"must be {side} {_figure(limits[name])}, not {given}.{_help(field)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {given}.{_help(field)}"
    return f"{fault['msg']}, found {given}.{_help(field)}"


_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a section with fields of its own",
    "model_attributes_type": "a section with fields of its own",
    "tuple_type": "a list",
    "too_short": "at least one entry",
}


def _figure(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _field_at(model: type[BaseModel], key: Key) -> FieldInfo | None:
    field = None
    for part in key:
        if not isinstance(part, str) or part not in model.model_fields:
            break
        field = model.model_fields[part]
        model = section(field) or model
    return field


def _help(field: FieldInfo | None) -> str:
    return f" ({field.description})" if field is not None and field.description else ""


def shown(value: object) -> str:
    """A value in a message: short, and as it stands in a sweep file where that is simple."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
