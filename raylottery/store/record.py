"""The record of a finished round: what it is, what came out and which files hold the rest.

A record is its own proof: its key is the fingerprint of the spec in it, and it names its files
with their checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, NotRequired

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from raylottery.errors import StoreError
from raylottery.spec.fingerprint import fingerprint
from raylottery.store import layout


class Result(TypedDict):
    """The columns of `rounds.parquet` that the training gives; more may stand beside them."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")  # ty: ignore

    density: float
    prunable: int
    kept: int
    total_params: int
    revived: int
    metric: str
    score: float
    score_at_stop: float
    score_best: float
    score_late: float
    score_area: float
    train_score: float
    loss: float
    supermask_score: float | None
    steps: int
    env_steps: int | None
    stopped_by: str
    stop_step: int | None
    min_loss_step: NotRequired[int | None]
    digests: dict[str, str]
    """Of round 0: a hash of all weights at each evaluation step."""


class StoredFile(BaseModel):
    """A file of a round; `path` is relative to the round's folder."""

    model_config = ConfigDict(strict=True, frozen=True)

    path: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: str, data: bytes) -> StoredFile:
        return cls(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


class Record(BaseModel):
    """A finished round."""

    model_config = ConfigDict(strict=True, frozen=True, ser_json_inf_nan="constants")

    schema_version: Literal[1] = Field(default=1, alias="schema")
    key: str
    parent: str | None
    spec: dict
    trained_by: str
    """The sweep that trained it."""
    attempt: int
    files: dict[str, StoredFile]
    result: Result
    seconds: float
    started_at: AwareDatetime
    finished_at: AwareDatetime
    host: str
    device: str
    version: str

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(by_alias=True, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, key: str, place: str) -> Record:
        """The record of the round `key`; StoreError naming `place` if it is not that."""
        try:
            record = cls.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(damaged(place, _first(error))) from error
        if record.key != key or fingerprint(record.spec) != key:
            raise StoreError(damaged(place, "its spec does not have the key it lies under"))
        for file in record.files.values():
            try:
                layout.round_file(key, file.path)
            except ValueError as error:
                raise StoreError(damaged(place, str(error))) from error
        return record


def _instant(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time says its zone, as in 2026-01-31T12:00:00+00:00")
    return text


class Failure(TypedDict):
    """A note of an attempt that failed: a row of `failures.parquet`."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # ty: ignore

    sweep: str
    lineage: str
    control: str
    round: int
    attempt: int
    error: str
    first_line: str
    log: str
    at: Annotated[str, AfterValidator(_instant)]


def failure_to_bytes(note: Mapping[str, object]) -> bytes:
    """A failure note as JSON; ValueError if it is not whole."""
    # Messages may quote names of files that are no valid text; a note is never lost for that.
    texts = {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in note.items()
    }
    return (json.dumps(_FAILURE.validate_python(texts), indent=1) + "\n").encode()


def failure_from_bytes(data: bytes, place: str) -> Failure:
    """The failure note; StoreError naming `place` if it is none."""
    try:
        return _FAILURE.validate_json(data)
    except ValidationError as error:
        raise StoreError(damaged(place, _first(error))) from error


_FAILURE = TypeAdapter(Failure)


def damaged(place: str, problem: str) -> str:
    """What to say, and to do, about a file that contradicts itself."""
    return (
        f"{place} is damaged: {problem}. `raylottery doctor --store` lists everything that is; "
        "remove the file and run the sweep again, which trains the round anew."
    )


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
