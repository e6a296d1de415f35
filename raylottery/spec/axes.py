"""The axes of a sweep: lists of values by field, whose product makes the arms.

`zip:` pairs lists of one length, and is one axis of the product. What decides the size of a sweep
(seeds, rounds, controls) or how it runs is no axis; resources may follow another axis by `zip`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from pydantic import BaseModel

from raylottery.errors import did_you_mean
from raylottery.spec.fingerprint import canonical
from raylottery.spec.problems import Key, Problem, Problems, kinds, sections, shown


ZIP = "zip"
MAX_ARMS = 4096
FOLLOWERS = "resources."
NO_AXIS = {
    "prune.rounds": "all arms go equally far; set prune.rounds itself",
    "name": "a sweep has one name",
    "seeds": "every arm has every seed; set seeds itself",
    "axes": "an axis varies a field of a section, such as prune.scope",
    "controls": "every arm has every control; set controls itself",
    "checkpoint": "it changes no result; set checkpoint itself",
    "cohort": "it changes no result; set cohort itself",
    "retries": "it changes no result; set retries itself",
    "timeout": "it changes no result; set timeout itself",
    "keep": "it changes no result; set keep itself",
    "keep.what": "it changes no result; set keep itself",
    "keep.densities": "it changes no result; set keep itself",
    "trainer.kind": "a sweep trains one kind; make a sweep of each",
}


def axis_lists(axes: Mapping[str, Any]) -> Iterator[tuple[Key, str, Any]]:
    """Every list of values: its key below `axes`, the field it sets, the values."""
    for path, values in axes.items():
        if path == ZIP and isinstance(values, Mapping):
            for paired, those in values.items():
                yield (ZIP, paired), paired, those
        else:
            yield (path,), path, values


def combinations(axes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One value for each field, for every arm in order."""
    for cells in product(*_columns(axes)):
        yield {path: value for cell in cells for path, value in cell.items()}


def _columns(axes: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The factors of the product: what each entry of an axis, or row of a zip, sets."""
    return [
        [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        if path == ZIP
        else [{path: value} for value in values]
        for path, values in axes.items()
    ]


def checked_axes(axes: Any, sweep: type[BaseModel], kind: str | None) -> Any:
    """The axes with lists made immutable; raises Problems for all that cannot be meant."""
    if not isinstance(axes, Mapping):
        return axes  # the field's own type says what was expected
    found = [*_shape_problems(axes), *_field_problems(axes, sweep, kind)]
    if found:
        raise Problems(found)
    frozen = {
        path: {k: tuple(v) for k, v in values.items()} if path == ZIP else tuple(values)
        for path, values in axes.items()
    }
    arms = prod(len(column) for column in _columns(frozen))
    if arms > MAX_ARMS:
        raise ValueError(f"{arms} arms are more than {MAX_ARMS}; make several sweeps of them.")
    return frozen


def _shape_problems(axes: Mapping[str, Any]) -> Iterator[Problem]:
    for key, _, values in axis_lists(axes):
        if key == (ZIP,):
            yield Problem(key, f"expected lists of values by field, found {shown(values)}.")
        elif not isinstance(values, list | tuple):
            yield Problem(key, f"expected a list of values, found {shown(values)}.")
        elif not values:
            yield Problem(key, "an axis without values has no arms; list some, or take it out.")
        else:
            yield from _value_problems(key, values)
    paired = axes.get(ZIP)
    if isinstance(paired, Mapping):
        lengths = {path: len(v) for path, v in paired.items() if isinstance(v, list | tuple)}
        if not paired:
            yield Problem((ZIP,), "pairs nothing; list values by field, or take it out.")
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            yield Problem((ZIP,), f"paired lists have one length, but {each}.")


def _value_problems(key: Key, values: Sequence[Any]) -> Iterator[Problem]:
    seen = set()
    for i, value in enumerate(values):
        try:
            text = canonical(value)
        except TypeError:
            yield Problem((*key, i), f"{shown(value)} is no plain value.")
            continue
        # The values of a zip may repeat one by one: their rows may not, which arms tell.
        if text in seen and key[0] != ZIP:
            yield Problem((*key, i), f"{shown(value)} is listed twice; take one out.")
        seen.add(text)


def _field_problems(
    axes: Mapping[str, Any], sweep: type[BaseModel], kind: str | None
) -> Iterator[Problem]:
    fields = axis_fields(sweep, kind)
    seen = set()
    for key, path, _ in axis_lists(axes):
        if key == (ZIP,):
            continue
        if path in seen:
            yield Problem(key, "this axis is given twice, alone and in zip; take one out.")
        elif path in NO_AXIS:
            yield Problem(key, f"cannot be an axis: {NO_AXIS[path]}.")
        elif path not in fields:
            inner = [field for field in fields if field.startswith(f"{path}.")]
            if inner:
                yield Problem(key, f"a section is no axis; vary one of {', '.join(inner)}.")
            elif path in axis_fields(sweep, None):
                yield Problem(key, f"is for another kind of trainer than {kind}; take it out.")
            else:
                yield Problem(key, f"no such field. {did_you_mean(path, fields)}")
        elif path.startswith(FOLLOWERS) and key[0] != ZIP:
            yield Problem(key, "no axis of its own; let it follow another under `zip:`.")
        seen.add(path)


def axis_fields(sweep: type[BaseModel], kind: str | None) -> list[str]:
    """The fields that an axis can vary, the trainer being of this kind or of an unknown one."""
    found = [
        f"{name}.{inner}"
        for name, field in sweep.model_fields.items()
        for part in sections(field)
        if kind is None or len(sections(field)) == 1 or kind in kinds(part)
        for inner in plain_fields(part)
    ]
    return [path for path in dict.fromkeys(found) if path not in NO_AXIS]


def plain_fields(section: type[BaseModel]) -> Iterator[str]:
    """The fields of a section that are none themselves, and those of sections within it."""
    for name, field in section.model_fields.items():
        below = sections(field)
        yield from (f"{name}.{inner}" for part in below for inner in plain_fields(part))
        if not below:
            yield name
