"""Bytes at paths, on a local folder or on any `pyarrow.fs` filesystem.

A file is whole or absent, and names that start with a dot are left out of every listing, so a
temporary file that a killed writer left behind never counts as data. `store.local` has folders of
this machine, `store.remote` all other places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import NamedTuple, Protocol

from raylottery.errors import Damaged, StoreError


Names = list[str]


class Entry(NamedTuple):
    """A file, as a walk through all of them finds it."""

    path: str
    bytes: int
    changed: float | None
    """When it was written last, in seconds since 1970, where the filesystem tells."""


Entries = list[Entry]


class Files(Protocol):
    """Whole files under one root. Paths are relative, with forward slashes."""

    def where(self, path: str = "") -> str:
        """The full place of `path`, or of the root."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file; FileNotFoundError if there is none, Damaged if it is a folder."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Puts a whole file at `path`, in place of what was there."""
        ...

    def create_exclusive(self, path: str, data: bytes) -> bool:
        """Puts a whole file at `path` if there is none; False if another was first."""
        ...

    def write_if_changed(self, path: str, data: bytes) -> bool:
        """Puts a whole file at `path` unless just these bytes are there; whether it did."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""
        ...

    def list(self, folder: str) -> Names:
        """The sorted names in a folder; empty if there is no such folder."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file, if it is there."""
        ...

    def move(self, path: str, to: str) -> None:
        """Puts what is at `path`, if anything is, at `to`, where nothing is."""
        ...

    def walk(self) -> Entries:
        """Every file under the root, hidden ones too."""
        ...

    def tidy(self, folder: str) -> None:
        """Removes a folder, and those in it, where nothing is left in them."""
        ...


def text_at(path: str, files: Files) -> str:
    """A log as far as it can be read; empty if there is none."""
    try:
        return files.read(path).decode(errors="replace")
    except (FileNotFoundError, Damaged):
        return ""


# What all files have in common


def write_if_changed(files: Files, path: str, data: bytes) -> bool:
    """Puts a whole file at `path` unless just these bytes are there; whether it did."""
    try:
        changed = files.read(path) != data
    except (FileNotFoundError, Damaged):
        changed = True
    if changed:
        files.write(path, data)
    return changed


def checked(path: str) -> str:
    """A path, unless it would lead out of the store."""
    parts = path.split("/") if path else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is no path inside a store")
    return path


@contextlib.contextmanager
def telling(place: str, verb: str) -> Generator[None]:
    """Says where it happened, and the mend, when a filesystem refuses."""
    try:
        yield
    except OSError as error:
        if verb == "read" and isinstance(error, FileNotFoundError):
            raise
        raise StoreError(
            f"{place} cannot be {verb}: {error.strerror or error}. Check space, access and the "
            "network, then run the same command again."
        ) from error
