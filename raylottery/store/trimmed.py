"""Files of finished rounds that a sweep's `keep` let go: a note of them, and what to say of them.

The note lies beside the record and is written before the files go, so that whoever finds one
missing can tell it from damage. It names them by their paths, which no other attempt shares: of a
round that is trained again, it says nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raylottery.errors import Damaged, NotKept
from raylottery.store import layout
from raylottery.store.files import Files
from raylottery.store.record import Record


class Note(BaseModel):
    """Which files of a round went, and on whose word."""

    model_config = ConfigDict(strict=True, frozen=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    sweep: str
    keep: str
    """The sweep's `keep`, as it was then."""
    files: list[str]
    """Paths relative to the round's folder, as its record has them."""
    at: str


def note_of(key: str, files: Files) -> Note | None:
    """The note of a round, if it has one that can be read."""
    try:
        return Note.model_validate_json(files.read(layout.trimmed(key)))
    except (FileNotFoundError, Damaged, ValidationError):
        return None


def let_go(record: Record, name: str, sweep: str, keep: str, files: Files) -> None:
    """Remove a file of a finished round on a sweep's word."""
    path = record.files[name].path
    at = datetime.now(UTC).isoformat(timespec="seconds")
    note = Note(sweep=sweep, keep=keep, files=[path], at=at)
    text = note.model_dump_json(by_alias=True, indent=1) + "\n"
    files.write(layout.trimmed(record.key), text.encode())
    files.delete(layout.round_file(record.key, path))


def has_gone(record: Record, name: str, files: Files) -> Note | None:
    """The note that says why a file of a round is not there, if it is so."""
    path = record.files[name].path if name in record.files else None
    if path is None or files.exists(layout.round_file(record.key, path)):
        return None
    note = note_of(record.key, files)
    return note if note is not None and path in note.files else None


def not_kept(key: str, name: str, note: Note) -> NotKept:
    return NotKept(
        f"the {name.partition('.')[0]} of round {key[:12]} was let go by the sweep {note.sweep!r} "
        f"(keep: {note.keep}). `keep: all` keeps it: run {note.sweep} again with that, and the "
        f"round is trained again",
        key,
    )
