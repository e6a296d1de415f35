"""From what a person writes after `--store` to files, refused early where it cannot work.

A plain path stays a path: it is never read as a URI, so spaces, quotes, percent signs and any
letters mean themselves. Opening leaves nothing behind when it refuses.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Generator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raylottery.errors import NotFoundError, StoreError, UsageError, did_you_mean
from raylottery.store import layout
from raylottery.store.files import Files
from raylottery.store.local import LocalFiles
from raylottery.store.remote import files_on


SCHEMES = ("s3", "gs", "abfs", "hdfs", "file")

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MEND = "Give a folder that can be written with --store or RAYLOTTERY_STORE."


PROBES = 5


def open_files(uri: str | os.PathLike[str]) -> Files:
    """The files of a store that exists, to read them; NotFoundError if there is none."""
    files = find_files(uri)
    if files is None:
        raise NotFoundError(
            f"there is no store at {os.fspath(uri)}. Check --store, or make one with "
            "`raylottery run`."
        )
    return files


def find_files(uri: str | os.PathLike[str]) -> Files | None:
    """The files of a store, or None where there is none yet."""
    files = _files_at(uri)
    if isinstance(files, LocalFiles):
        return files if _is_folder(files.root) else None
    with _answering(uri):
        there = any(files.list(folder) for folder in (layout.SWEEPS, layout.ROUNDS))
    return files if there else None


def writable_files(uri: str | os.PathLike[str]) -> Files:
    """The files of a store, to write them; proves that it can be, and leaves nothing behind."""
    files = _files_at(uri)
    if isinstance(files, LocalFiles):
        _is_folder(files.root)
        _prove_writable(files.root)
    else:
        probe = f".{secrets.token_hex(8)}.tmp"
        with _answering(uri):
            files.write(probe, b"")
            files.delete(probe)
    return files


def _files_at(uri: str | os.PathLike[str]) -> Files:
    text = os.fspath(uri)
    scheme = _URI.match(text)
    if scheme is not None and scheme[1].lower() != "file":
        return _remote(text, scheme[1])
    if scheme is None:
        path = os.path.expanduser(text)
    else:
        parts = urlsplit(text)
        path = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    if not path or "\0" in path:
        raise UsageError(f"{text!r} is no path of a store. {_MEND}")
    return LocalFiles(path)


def _is_folder(root: Path) -> bool:
    """Whether there is a folder; what is there and is none cannot be a store."""
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(root, error) from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{root} is a file, and a store is a folder. {_MEND}")
    return True


def _prove_writable(root: Path) -> None:
    """Makes the folder and a file in it, and takes both back: the first write makes it again."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    probe = root / f".{secrets.token_hex(8)}.tmp"
    try:
        for attempt in range(PROBES):
            try:
                root.mkdir(parents=True, exist_ok=True)
                probe.touch(exist_ok=False)
                break
            except FileNotFoundError:  # another process took back the folder it had made
                if attempt == PROBES - 1:
                    raise
        probe.unlink()
    except OSError as error:
        raise _unusable(root, error) from error
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _unusable(root: Path, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(f"the store {root} cannot be used: {reason}. {_MEND}")


def _remote(uri: str, scheme: str) -> Files:
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        with _answering(uri):
            fs, root = pafs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        hint = "" if scheme in SCHEMES else did_you_mean(scheme, SCHEMES)
        raise UsageError(f"{uri!r} is no place for a store: {error}. {hint or _MEND}") from error
    return files_on(fs, root, uri)


@contextlib.contextmanager
def _answering(uri: str | os.PathLike[str]) -> Generator[None]:
    try:
        yield
    except (OSError, StoreError) as error:
        raise NotFoundError(
            f"the store {os.fspath(uri)} does not answer: {error}. Check the name, the network, "
            "the credentials and that they allow writing."
        ) from error
