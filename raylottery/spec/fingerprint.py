"""Fingerprints: the same meaning gives the same key, forever.

A key is the hash of a value's canonical JSON. A value with no stable form is refused, never
guessed at, since a guess would fork every key made from it without a word.

A field marked `Frozen(value)` is left out of keys while it holds the value it had when it was
introduced. So a new field renames nothing that exists, and a default changed later enters the
key: what counts is the frozen value, never the default of today.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from raylottery.spec.extent import Extent


@dataclass(frozen=True)
class Frozen:
    """The value at which a field says nothing: `Annotated[float, Frozen(0.0)]`."""

    value: object


def canonical(value: object) -> str:
    """JSON, keys sorted, no spaces; TypeError names the place of what has no such form."""
    return json.dumps(
        _stable(value, "value", ()), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def fingerprint(value: object, length: int = 32) -> str:
    """The first `length` hex digits of the hash of `value`'s canonical form."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()[:length]


def determinants(model: BaseModel, resolve: Callable[[Extent], int]) -> dict[str, Any]:
    """The fields of `model` that say something, extents as steps.

    Args:
        model: a spec.
        resolve: turns an extent into steps.
    """
    found = {}
    for name, field in type(model).model_fields.items():
        value = _resolved(getattr(model, name), resolve)
        frozen = [mark for mark in field.metadata if isinstance(mark, Frozen)]
        if frozen and canonical(value) == canonical(_resolved(frozen[0].value, resolve)):
            continue
        found[name] = value
    return found


def _resolved(value: Any, resolve: Callable[[Extent], int]) -> Any:
    if isinstance(value, Extent):
        return resolve(value)
    if isinstance(value, BaseModel):
        return determinants(value, resolve)
    if isinstance(value, dict):
        return {key: _resolved(part, resolve) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(part, resolve) for part in value]
    return value


def _stable(value: object, place: str, above: tuple[int, ...]) -> object:
    # Exact types: a subclass (an enum, a numpy float) may print differently one day.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise TypeError(f"{place} is {value}, which has no stable form in a key.")
        return value + 0.0  # -0.0 and 0.0 are one number
    if id(value) in above:
        raise TypeError(f"{place} contains itself, so it has no stable form in a key.")
    above = (*above, id(value))
    if type(value) is list or type(value) is tuple:
        return [_stable(part, f"{place}[{i}]", above) for i, part in enumerate(value)]
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{place} has the key {key!r}; only text can be a key.")
        return {key: _stable(part, f"{place}.{key}", above) for key, part in value.items()}
    raise TypeError(
        f"{place} is of type {type(value).__name__}, which has no stable form in a key."
    )
