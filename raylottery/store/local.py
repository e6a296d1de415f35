"""Files in a folder of this machine, or of a filesystem mounted on it.

A write goes to a hidden temporary file beside its final place, is flushed to the disk and then
renamed. `create_exclusive` is exclusive: of any number of writers exactly one gets True (on the
few filesystems without hard links it is advisory).

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

from raylottery.errors import Damaged
from raylottery.store.damage import damaged
from raylottery.store.files import Entries, Entry, Names, checked, telling, write_if_changed


log = logging.getLogger(__name__)

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalFiles:
    """Files under a folder."""

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def where(self, path: str = "") -> str:
        return str(self._at(path))

    def read(self, path: str) -> bytes:
        with telling(self.where(path), "read"):
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
        return write_if_changed(self, path, data)

    def exists(self, path: str) -> bool:
        with telling(self.where(path), "read"):
            return self._at(path).exists()

    def list(self, folder: str) -> Names:
        with telling(self.where(folder), "read"):
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
        with telling(self.where(path), "removed"):
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
        with telling(self.where(path), "moved"):
            _make_folder(final.parent, self.root)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.rename(self._at(path), final)

    def walk(self) -> Entries:
        found = []
        with telling(self.where(), "read"):
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
        return self.root / checked(path)

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
            with telling(str(final), "written"):
                try:
                    _write_through(temporary, data)
                except (FileNotFoundError, NotADirectoryError):
                    _make_folder(final.parent, self.root)
                    _write_through(temporary, data)
                yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


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


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
