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
    except IsADirectoryError as error:
        raise SpecError("is a folder; name a sweep file in it.", file=str(path)) from error
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


@dataclass
class Places:
    """Where each key was given: a line of the file, or an override."""

    file: str
    lines: Mapping[Key, int]
    overrides: list[Key] = field(default_factory=list)

    def of(self, problem: Problem) -> tuple[str, int | None, str]:
        """File, line and text that name a problem best."""
        key = problem.key
        for given in reversed(self.overrides):
            made_by_it = key not in self.lines and given[: len(key)] == key != ()
            if key[: len(given)] == given or made_by_it:
                text = problem.text if key == given else str(problem)
                return f"--set {dotted(given)}", None, text
        nearest = (key[:end] for end in range(len(key), 0, -1) if key[:end] in self.lines)
        return self.file, self.lines.get(next(nearest, ())), str(problem)

    def error(self, problems: Sequence[Problem]) -> SpecError:
        """One error that lists all problems in the file's order."""
        found = sorted(
            dict.fromkeys(self.of(problem) for problem in problems),
            key=lambda place: (place[0] != self.file, place[1] or 0),
        )
        (file, line, text), *others = found
        listed = [str(SpecError(t, file=f, line=n)) for f, n, t in others[: MAX_LISTED - 1]]
        if len(found) > MAX_LISTED:
            listed.append(f"... and {len(found) - MAX_LISTED} more.")
        return SpecError("\n".join([text, *listed]), file=file, line=line)


def _overridden(tree: Mapping[str, Any], override: str, places: Places) -> dict[str, Any]:
    """`tree` with one `key=value` in place."""
    name, equals, text = override.partition("=")
    name = name.strip()
    place = f"--set {override if override.isprintable() else ascii(override)}"
    if not equals or not name or not name.isprintable():
        raise SpecError("expected KEY=VALUE, such as prune.rounds=3.", file=place)
    key = _override_key(name)
    try:
        document = yaml12.load(text)
    except yaml12.NotYaml as error:
        raise SpecError(str(error), file=place) from error
    if document.problems:
        raise SpecError(str(document.problems[0]), file=place)
    places.overrides.append(key)
    return _with(tree, key, document.value, place)


def _override_key(name: str) -> Key:
    """The key that an override names; an axis is called by its field, dots included."""
    first, _, rest = name.partition(".")
    if first != "axes" or not rest:
        return tuple(name.split("."))
    inner, _, paired = rest.partition(".")
    return ("axes", ZIP, paired) if inner == ZIP and paired else ("axes", rest)


def _with(tree: Any, key: Key, value: Any, place: str) -> Any:
    if not key:
        return value
    if not isinstance(tree, Mapping):
        raise SpecError(f"{shown(tree)} has no fields; {key[0]} cannot be set.", file=place)
    return {**tree, key[0]: _with(tree.get(key[0], {}), key[1:], value, place)}


def _useless_overrides(sweep: Sweep, places: Places) -> list[Problem]:
    """Overrides of what an axis sets in every arm."""
    varied = {path: dotted(("axes", *key)) for key, path, _ in axis_lists(sweep.axes)}
    return [
        Problem(key, f"every arm sets this by {varied[dotted(key)]}; override that instead.")
        for key in places.overrides
        if dotted(key) in varied
    ]
