"""Bytes at paths, on a local folder or on any `pyarrow.fs` filesystem.

A file is whole or absent: a local write goes to a hidden temporary file beside its final place, is
flushed to the disk and then renamed; an object store shows an object only when its upload is
complete. Names that start with a dot are left out of every listing, so a temporary file that a
killed writer left behind never counts as data.

`create_exclusive` is exclusive on local folders: of any number of writers exactly one gets True.
Elsewhere (and on the few local filesystems without hard links) it is advisory: it writes where
nothing is, and reads back what stayed.

A folder that stands where a file is to be written or removed, or a file where a folder is to be,
is moved out of the way under a hidden name: nobody can say what it is worth.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from raylottery.errors import Damaged, StoreError
from raylottery.store.damage import damaged


if TYPE_CHECKING:
    import pyarrow.fs


Names = list[str]

log = logging.getLogger(__name__)


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


class LocalFiles:
    """Files in a folder of this machine, or of a filesystem mounted on it."""

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def where(self, path: str = "") -> str:
        return str(self._at(path))

    def read(self, path: str) -> bytes:
        with _telling(self.where(path), "read"):
            try:
                return self._at(path).read_bytes()
            except NotADirectoryError as error:
                if not self._stands(path):
                    raise
                raise FileNotFoundError(error.errno, error.strerror, self.where(path)) from error
            except IsADirectoryError as error:
                problem = "it is a folder, and a file belongs there"
                raise Damaged(damaged(self, path, problem)) from error

    def write(self, path: str, data: bytes) -> None:
        final = self._at(path)
        with self._temporary(path, data) as temporary:
            try:
                os.replace(temporary, final)
            except IsADirectoryError:
                _move_away(final)
                os.replace(temporary, final)

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
        with _telling(self.where(path), "read"):
            return self._at(path).exists()

    def list(self, folder: str) -> Names:
        with _telling(self.where(folder), "read"):
            try:
                names = os.listdir(self._at(folder))
            except FileNotFoundError:
                return []
            except NotADirectoryError:
                if not self._stands(folder):
                    raise
                return []
        return sorted(name for name in names if not name.startswith("."))

    def delete(self, path: str) -> None:
        final = self._at(path)
        with _telling(self.where(path), "removed"):
            try:
                final.unlink(missing_ok=True)
            except NotADirectoryError:
                pass  # a file stands where its folder would
            except (IsADirectoryError, PermissionError):  # as macOS has it
                if not final.is_dir():
                    raise
                _move_away(final)

    def move(self, path: str, to: str) -> None:
        final = self._at(to)
        with _telling(self.where(path), "moved"):
            _make_folder(final.parent, self.root)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.rename(self._at(path), final)

    def walk(self) -> Entries:
        found = []
        with _telling(self.where(), "read"):
            for folder, _, names in os.walk(self.root, onerror=_unless_gone):
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        about = path.lstat()
                        place = path.relative_to(self.root).as_posix()
                        found.append(Entry(place, about.st_size, about.st_mtime))
        return found

    def tidy(self, folder: str) -> None:
        for inner, _, _ in os.walk(self._at(folder), topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(inner)

    def _at(self, path: str) -> Path:
        return self.root / _checked(path)

    def _stands(self, path: str) -> bool:
        """Whether the store's own folder for a path is one: else all of it seems to be gone, which
        is no damage but a store that cannot be used."""
        return (self.root / path.partition("/")[0]).is_dir()

    @contextlib.contextmanager
    def _temporary(self, path: str, data: bytes) -> Generator[Path]:
        """A hidden file beside `path`, flushed to the disk and gone afterwards."""
        final = self._at(path)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
        try:
            with _telling(str(final), "written"):
                try:
                    _write_through(temporary, data)
                except (FileNotFoundError, NotADirectoryError):
                    _make_folder(final.parent, self.root)
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

        with _telling(self.where(path), "read"):
            return self._fs.get_file_info(self._at(path)).type != pafs.FileType.NotFound

    def list(self, folder: str) -> Names:
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._at(folder), allow_not_found=True)
        with _telling(self.where(folder), "read"):
            names = [info.base_name for info in self._fs.get_file_info(selector)]
        return sorted(name for name in names if name and not name.startswith("."))

    def delete(self, path: str) -> None:
        with _telling(self.where(path), "removed"), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._at(path))

    def move(self, path: str, to: str) -> None:
        try:
            data = self.read(path)
        except FileNotFoundError:
            return
        self.write(to, data)  # as any object store moves, and no other is asked to know how
        self.delete(path)

    def walk(self) -> Entries:
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._root, recursive=True, allow_not_found=True)
        with _telling(self.where(), "read"):
            found = self._fs.get_file_info(selector)
        above = f"{self._root}/".lstrip("/")
        return [
            Entry(
                info.path.lstrip("/").removeprefix(above),
                info.size or 0,
                None if info.mtime_ns is None else info.mtime_ns / 1e9,
            )
            for info in found
            if info.type == pafs.FileType.File
        ]

    def tidy(self, folder: str) -> None:
        """An object store has no folders, and elsewhere empty ones do no harm."""

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
    except (FileNotFoundError, Damaged):
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


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _make_folder(folder: Path, root: Path) -> None:
    """Makes a folder of a store; a file that stands where one belongs is moved out of the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        for part in (folder, *folder.parents):
            if root in part.parent.parents and part.is_file():
                _move_away(part)
        folder.mkdir(parents=True, exist_ok=True)


def _move_away(path: Path) -> None:
    """Keep what does not belong at a place beside it, under a name that no listing shows."""
    kept = path.with_name(f".{path.name}.{secrets.token_hex(8)}.moved")
    with contextlib.suppress(FileNotFoundError):  # another process did
        os.rename(path, kept)
        log.warning("%s stood in the way of a file of the store: it was moved to %s",
                    path, kept.name)  # fmt: skip


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


def text_at(path: str, files: Files) -> str:
    """A log as far as it can be read; empty if there is none."""
    try:
        return files.read(path).decode(errors="replace")
    except (FileNotFoundError, Damaged):
        return ""
