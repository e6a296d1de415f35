"""The fields of each lineage's spec as a table: what a comparison may ask for and pair on.

Cells are JSON text, so that 1, "1" and true stay apart and a field that a spec lacks reads as
null. Specs are the same for all seeds of an arm; each distinct one is parsed once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import pandas as pd


# Fields in which two lineages may differ and still be the same arm.
BOOKKEEPING = frozenset(
    {
        "name",
        "seeds",
        "axes",
        "controls",
        "resources",
        "checkpoint",
        "retries",
        "timeout",
        "cohort",
        "keep",
        "prune.rounds",
    }
)

# People say these first and last, whatever the alphabet says.
EXTREMES = {"init": float("-inf"), "final": float("inf")}


def leaves(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The (dotted path, value) pairs of a nested mapping; lists are values."""
    for name, child in value.items():
        path = f"{prefix}{name}"
        if path in BOOKKEEPING:
            continue
        if isinstance(child, Mapping):
            yield from leaves(child, f"{path}.")
        else:
            yield path, child


def spec_fields(lineages: pd.DataFrame) -> pd.DataFrame:
    """One row a lineage, one column a field of its spec, cells as JSON text.

    A clock that follows the weights reads as where they go: written out or not, it is one place.
    """
    fields = _parsed(lineages["spec"], lambda spec: dict(leaves(spec))).fillna("null")
    if {"rewind.clock", "rewind.weights"} <= set(fields):
        clock = fields["rewind.clock"]
        fields["rewind.clock"] = clock.mask(clock == "null", fields["rewind.weights"])
    return fields


def axis_values(lineages: pd.DataFrame) -> pd.DataFrame:
    """One row a lineage, one column an axis of any of the sweeps, cells as JSON text.

    A sweep that does not vary what another does still has one value of it: that of its spec.
    """
    values = _parsed(lineages["values"], dict)
    fields = spec_fields(lineages)
    return pd.DataFrame(
        {
            path: column.where(column.notna(), fields.get(path, "null"))
            for path, column in values.items()
        },
        index=lineages.index,
    )


def plain(cells: pd.Series) -> pd.Series:
    """Cells as the values they stand for where all are numbers or all truth values, else text."""
    codes, texts = pd.factorize(cells)
    values = [json.loads(text) for text in texts]
    kinds = {type(value) for value in values}
    if not (kinds <= {int, float} or kinds == {bool}):
        values = [None if text == "null" else say(text) for text in texts]
    return pd.Series(values).take(codes).set_axis(cells.index)


def say(text: str) -> str:
    """A cell as people write it: without the quotes of JSON text."""
    value = json.loads(text)
    if value is None:
        return "none"
    return value if isinstance(value, str) else text


def in_order(cells: Iterable[str]) -> list[str]:
    """Distinct cells as people list them: init, numbers and extents by size, words, final."""
    return sorted(set(cells), key=rank)


def rank(cell: str) -> tuple[int, float, str]:
    """Where a cell comes in the order of people."""
    text = say(cell)
    if text in EXTREMES:
        return (0, EXTREMES[text], text)
    number = re.match(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", text)
    return (0, float(number[0]), text) if number else (1, 0.0, text)


def _parsed(
    column: pd.Series, read: Callable[[dict[str, object]], dict[str, object]]
) -> pd.DataFrame:
    """One row a cell of JSON text, one column a path that `read` finds in any of them."""
    codes, texts = pd.factorize(column)
    rows = [
        {path: json.dumps(value, sort_keys=True) for path, value in read(json.loads(text)).items()}
        for text in texts
    ]
    table = pd.DataFrame(rows, index=range(len(rows)))
    return table.take(codes).set_axis(column.index)
