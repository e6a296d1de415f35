"""What is wrong with a spec, by key, in words that say what was expected.

Validators raise `Problems` where one check finds several faults, or where a fault lies deeper than
the field that is checked; `explain` turns everything that pydantic found into problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from raylottery.errors import did_you_mean, nearest


class StrictModel(BaseModel):
    """A part of a sweep file: immutable, no unknown fields, no value taken for another type."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def changed(part: StrictModel) -> dict[str, Any]:
    """The fields of a section that are not at their defaults."""
    return {
        name: value
        for name, field in type(part).model_fields.items()
        if (value := getattr(part, name)) != field.get_default(call_default_factory=True)
    }


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
    absent: set[Problem] = set()
    misspelt: set[Key] = set()
    for fault in error.errors(include_url=False):
        key, inner, field = located(model, fault["loc"])
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, Problems):
            found += [
                (fault["type"], Problem((*key, *problem.key), problem.text))
                for problem in cause.problems
            ]
            continue
        found.append((fault["type"], Problem(key, _explain(fault, key, inner, field))))
        if fault["type"] == "missing" or fault["input"] is None:
            absent.add(found[-1][1])
        if fault["type"] == "extra_forbidden":
            near = nearest(key[-1], inner.model_fields)
            misspelt |= {(*key[:-1], near)} if near else set()
    # Pydantic also calls a list too short when its only entry was refused.
    refused = {problem.key[:-1] for _, problem in found}
    return [
        problem
        for kind, problem in found
        if not (problem in absent and problem.key in misspelt)
        and not (kind == "too_short" and problem.key in refused)
    ]


def located(model: type[BaseModel], place: Key) -> tuple[Key, type[BaseModel], FieldInfo | None]:
    """Where pydantic's `place` lies: the key, the model of its section, and its field if it has.

    Below a field that is one of several sections, pydantic's place also says which: no key does.
    """
    key: list[str | int] = []
    field = None
    parts = list(place)
    while parts:
        name = parts.pop(0)
        key.append(name)
        if name not in model.model_fields:
            return (*key, *parts), model, None
        field = model.model_fields[str(name)]
        inner = sections(field)
        if listed := entries(field):
            key += [parts.pop(0)] if parts else []
            inner = (listed,)
        if not parts or not inner:
            return (*key, *parts), model, field
        model = inner[0]
        if len(inner) > 1:
            kind = parts.pop(0)
            [model] = [one for one in inner if kind in kinds(one)]
    return tuple(key), model, field


def sections(field: FieldInfo) -> tuple[type[BaseModel], ...]:
    """The models of a field that is a section, of one kind or of several."""
    types = get_args(field.annotation) or (field.annotation,)
    models = tuple(t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
    return models if len(models) == len(types) else ()


def entries(field: FieldInfo) -> type[BaseModel] | None:
    """The model of each entry of a field that is a list of sections."""
    model, *_ = get_args(field.annotation) or (None,)
    is_list = get_origin(field.annotation) is tuple
    return model if is_list and isinstance(model, type) and issubclass(model, BaseModel) else None


def kinds(section: type[BaseModel]) -> tuple[str, ...]:
    """The kinds that a section is for, where it is one of several."""
    return get_args(section.model_fields["kind"].annotation)


def _explain(
    fault: Mapping[str, Any], key: Key, model: type[BaseModel], field: FieldInfo | None
) -> str:
    kind, given, limits = fault["type"], shown(fault["input"]), fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"no such field. {did_you_mean(key[-1], model.model_fields)}"
    if kind == "missing":
        return f"missing, and it has no default.{_help(field)}"
    if kind == "literal_error" and field is not None:
        return f"no such value: {given}. {did_you_mean(fault['input'], choices(field.annotation))}"
    if kind == "value_error":
        return str(limits["error"])
    if kind in _BOUNDS:
        name, side = _BOUNDS[kind]
        return f"must be {side} {_figure(limits[name])}, not {given}.{_help(field)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {given}.{_help(field)}"
    return f"{fault['msg']}, found {given}.{_help(field)}"


def choices(annotation: Any) -> list[str]:
    """The words that a literal, or an optional one, may be."""
    return [
        choice
        for part in get_args(annotation)
        for choice in ([part] if isinstance(part, str) else choices(part))
    ]


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


def _help(field: FieldInfo | None) -> str:
    return f" ({' '.join(field.description.split())})" if field and field.description else ""


def shown(value: object) -> str:
    """A value in a message: short, and as it stands in a sweep file where that is simple."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
