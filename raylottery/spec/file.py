"""Sweep files: read with every fault named by file, line and key, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raylottery.errors import SpecError, did_you_mean
from raylottery.spec import yaml12
from raylottery.spec.axes import ZIP, axis_lists
from raylottery.spec.expand import try_expand
from raylottery.spec.problems import Key, Problem, dotted, explain, shown
from raylottery.spec.sweep import Sweep


MAX_LISTED = 20


def read_sweep(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in a file, with `key=value` overrides; SpecError lists all that is wrong."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near)
        raise SpecError(f"no such file. {hint}".rstrip(), file=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read as text: {error}.", file=str(path)) from error
    return parse_sweep(text, file=str(path), overrides=overrides)


def parse_sweep(text: str, file: str = "sweep", overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in `text`; `file` is what messages call it."""
    try:
        document = yaml12.load(text)
    except yaml12.NotYaml as error:
        raise SpecError(str(error), file=file, line=error.line) from error
    if not isinstance(document.value, dict):
        found = "it is empty" if document.value is None else f"found {shown(document.value)}"
        raise SpecError(
            f"a sweep file is a mapping of fields such as `name:` and `trainer:`, but {found}.",
            file=file,
            line=document.lines.get(()),
        )
    places = Places(file, document.lines)
    tree, problems = document.value, list(document.problems)
    for override in overrides:
        tree = _overridden(tree, override, places)
    try:
        sweep = Sweep.model_validate(tree)
    except ValidationError as error:
        problems += explain(error, Sweep)
    else:
        problems += try_expand(sweep)[1]
        problems += _useless_overrides(sweep, places)
    if problems:
        raise places.error(problems)
    return sweep


def dump_sweep(sweep: Sweep) -> str:
    """A sweep as a sweep file, every default written out; `parse_sweep` gives the same sweep."""
    return yaml12.dump(sweep.model_dump(mode="json"))
