"""Bytes at paths, on a local folder or on any `pyarrow.fs` filesystem.

A file is whole or absent: a local write goes to a hidden temporary file beside its final place, is
flushed to the disk and then renamed; an object store shows an object only when its upload is
complete. Names that start with a dot are left out of every listing, so a temporary file that a
killed writer left behind never counts as data.

`create_exclusive` is exclusive on local folders: of any number of writers exactly one gets True.
Elsewhere (and on the few local filesystems without hard links) it is advisory: it writes where
nothing is, and reads back what stayed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from raylottery.errors import StoreError


if TYPE_CHECKING:
    import pyarrow.fs


Names = list[str]


class Files(Protocol):
    """Whole files under one root. Paths are relative, with forward slashes."""

    def where(self, path: str = "") -> str:
        """The full place of `path`, or of the root."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file; FileNotFoundError if there is none."""
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


class LocalFiles:
    """Files in a folder of this machine, or of a filesystem mounted on it."""

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def where(self, path: str = "") -> str:
        return str(self._at(path))

    def read(self, path: str) -> bytes:
        with _telling(self.where(path), "read"):
            return self._at(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        with self._temporary(path, data) as temporary:
            os.replace(temporary, self._at(path))

    def create_exclusive(self, path: str, data: bytes) -> bool:
        final = self._at(path)
        if final.exists():
            return False
        with self._temporary(path, data) as temporary:
            try:
                os.link(temporary, final)
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
            os.replace(temporary, final)
        return self.read(path) == data

    def write_if_changed(self, path: str, data: bytes) -> bool:
        return _write_if_changed(self, path, data)

    def exists(self, path: str) -> bool:
        return self._at(path).exists()

    def list(self, folder: str) -> Names:
        try:
            names = os.listdir(self._at(folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def delete(self, path: str) -> None:
        self._at(path).unlink(missing_ok=True)

    def _at(self, path: str) -> Path:
        return self.root / _checked(path)

    @contextlib.contextmanager
    def _temporary(self, path: str, data: bytes) -> Generator[Path]:
        """A hidden file beside `path`, flushed to the disk and gone afterwards."""
        final = self._at(path)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
        try:
            with _telling(str(final), "written"):
                try:
                    _write_through(temporary, data)
                except FileNotFoundError:
                    final.parent.mkdir(parents=True, exist_ok=True)
                    _write_through(temporary, data)
                yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


class RemoteFiles:
    """Files on a `pyarrow.fs` filesystem that is no folder of this machine."""

    def __init__(self, fs: pyarrow.fs.FileSystem, root: str, uri: str):
        self._fs = fs
        self._root = root.rstrip("/")
        self._uri = uri.rstrip("/")

    def where(self, path: str = "") -> str:
        base, mark, query = self._uri.partition("?")
        return f"{base}/{_checked(path)}{mark}{query}" if path else self._uri

    def read(self, path: str) -> bytes:
        with (
            _telling(self.where(path), "read"),
            self._fs.open_input_stream(self._at(path)) as stream,
        ):
            return stream.read()

    def write(self, path: str, data: bytes) -> None:
        place = self._at(path)
        with _telling(self.where(path), "written"):
            try:
                self._put(place, data)
            except FileNotFoundError:  # a filesystem with real folders
                self._fs.create_dir(place.rpartition("/")[0], recursive=True)
                self._put(place, data)

    def create_exclusive(self, path: str, data: bytes) -> bool:
        if self.exists(path):
            return False
        self.write(path, data)
        return self.read(path) == data

    def write_if_changed(self, path: str, data: bytes) -> bool:
        return _write_if_changed(self, path, data)

    def exists(self, path: str) -> bool:
        import pyarrow.fs as pafs

        return self._fs.get_file_info(self._at(path)).type != pafs.FileType.NotFound

    def list(self, folder: str) -> Names:
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._at(folder), allow_not_found=True)
        names = (info.base_name for info in self._fs.get_file_info(selector))
        return sorted(name for name in names if name and not name.startswith("."))

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._at(path))

    def _at(self, path: str) -> str:
        return "/".join(part for part in (self._root, _checked(path)) if part)

    def _put(self, place: str, data: bytes) -> None:
        with self._fs.open_output_stream(place) as stream:
            stream.write(data)


def files_on(fs: pyarrow.fs.FileSystem, root: str, uri: str | None = None) -> Files:
    """Files under `root` of a filesystem; a local one is used directly, for its atomic rename."""
    import pyarrow.fs as pafs

    if isinstance(fs, pafs.SubTreeFileSystem):
        return files_on(fs.base_fs, f"{fs.base_path}{root}".rstrip("/"), uri)
    if isinstance(fs, pafs.LocalFileSystem):
        return LocalFiles(root)
    return RemoteFiles(fs, root, uri or f"{fs.type_name}://{root}")


_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _write_if_changed(files: Files, path: str, data: bytes) -> bool:
    try:
        changed = files.read(path) != data
    except FileNotFoundError:
        changed = True
    if changed:
        files.write(path, data)
    return changed


@contextlib.contextmanager
def _telling(place: str, verb: str) -> Generator[None]:
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


def _checked(path: str) -> str:
    parts = path.split("/") if path else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is no path inside a store")
    return path


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
