"""What to say, and to do, about files that are not as they were written, or that are too new."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pydantic_core import from_json

from raylottery.errors import NewerStore


if TYPE_CHECKING:
    from raylottery.store.files import Files


SCHEMA = 1
"""Of all that a store holds; a raylottery refuses what is newer than it knows."""


def damaged(files: Files, path: str, problem: str) -> str:
    """What is wrong with a file of a store, and the mend."""
    return (
        f"{files.where(path)} is damaged: {problem}. Mend it with: raylottery doctor --repair "
        f"--store {shlex.quote(files.where())}; then run the sweep again"
    )


def refuse_newer(data: bytes, place: str) -> None:
    """NewerStore if JSON says that its schema is one of the future."""
    try:
        said = from_json(data)
    except ValueError:
        return
    refuse_schema(said.get("schema") if isinstance(said, dict) else None, place)


def refuse_schema(schema: object, place: str) -> None:
    """NewerStore for the schema of the file at a place."""
    if type(schema) is int and schema > SCHEMA:
        raise NewerStore(
            f"{place} was written by a newer raylottery (schema {schema}, this one reads "
            f"{SCHEMA}): pip install -U raylottery"
        )
