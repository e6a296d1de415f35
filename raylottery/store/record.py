"""The record of a finished round: what it is, what came out and which files hold the rest.

A record is its own proof: its key is the fingerprint of the spec in it, it names its files with
their checksums, and it ends with its own.
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
        body = self.model_dump_json(by_alias=True, indent=1).encode().removesuffix(b"\n}")
        return body + _ending(body)

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Record:
        """The record of the round `key`; ValueError if it is not that."""
        try:
            record = cls.model_validate_json(data)
            itself = record.key == key == fingerprint(record.spec)
        except ValidationError as error:
            raise ValueError(first(error)) from error
        except TypeError as error:  # of a spec that no key can be made of
            raise ValueError(str(error)) from error
        if not itself:
            raise ValueError("its spec does not have the key it lies under")
        for file in record.files.values():
            layout.round_file(key, file.path)
        body, mark, _ = data.rpartition(_MARK)
        # The first stores were written without: their records have nothing to be held against.
        if mark and data != body + _ending(body):
            raise ValueError("it does not have the checksum that it ends with")
        return record


_MARK = b',\n "checksum": "'


def _ending(body: bytes) -> bytes:
    """How a record goes on after its last field but one: with the checksum of all before."""
    return _MARK + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def _instant(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time says its zone, as in 2026-01-31T12:00:00+00:00")
    return text


Instant = Annotated[str, AfterValidator(_instant)]
"""A time and its zone, as it is written."""


class Failure(TypedDict):
    """A note of an attempt that failed: a row of `failures.parquet`."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # ty: ignore

    sweep: str
    lineage: str
    control: str
    round: Annotated[int, Field(ge=0, lt=1 << 63)]
    attempt: Annotated[int, Field(ge=0, lt=1 << 63)]
    error: str
    first_line: str
    log: str
    at: Instant


def failure_to_bytes(note: Mapping[str, object]) -> bytes:
    """A failure note as JSON; ValueError if it is not whole."""
    # Messages may quote names of files that are no valid text; a note is never lost for that.
    texts = {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in note.items()
    }
    return (json.dumps(_FAILURE.validate_python(texts), indent=1) + "\n").encode()


def failure_from_bytes(data: bytes) -> Failure:
    """The failure note; ValueError if it is none."""
    try:
        return _FAILURE.validate_json(data)
    except ValidationError as error:
        raise ValueError(first(error)) from error


_FAILURE = TypeAdapter(Failure)


def first(error: ValidationError) -> str:
    """The first thing that is wrong, in a line."""
    found = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    return f"{place}: {found['msg']}" if place else found["msg"]
