"""Who ran a sweep last, from where and with what, as it is kept beside the sweep's tables."""

from __future__ import annotations

from typing import NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from raylottery.errors import Damaged
from raylottery.store import layout
from raylottery.store.damage import damaged
from raylottery.store.files import Files


class Provenance(TypedDict):
    """What a reader of the tables needs to know about the process that wrote them."""

    raylottery: str
    python: str
    packages: dict[str, str | None]
    host: NotRequired[str]
    platform: str
    command: NotRequired[list[str]]
    commit: str | None
    at: str


_PROVENANCE = TypeAdapter(Provenance)


def read_provenance(sweep: str, files: Files) -> Provenance | None:
    """Who ran a sweep last, if that is written down; Damaged if it cannot be read."""
    path = layout.provenance(sweep)
    try:
        return _PROVENANCE.validate_json(files.read(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Damaged(damaged(files, path, "it does not say who ran the sweep")) from error


def write_provenance(sweep: str, files: Files, about: Provenance) -> None:
    """Write down who runs a sweep."""
    files.write(layout.provenance(sweep), _PROVENANCE.dump_json(about, indent=2) + b"\n")
