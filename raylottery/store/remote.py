"""Files elsewhere: on any `pyarrow.fs` filesystem that is no folder of this machine.

An object store shows an object only when its upload is complete. `create_exclusive` is advisory:
it writes where nothing is, and reads back what stayed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from raylottery.store.files import (
    Entries,
    Entry,
    Files,
    Names,
    checked,
    telling,
    write_if_changed,
)
from raylottery.store.local import LocalFiles


if TYPE_CHECKING:
    import pyarrow.fs


class RemoteFiles:
    """Files under a path of a filesystem."""

    def __init__(self, fs: pyarrow.fs.FileSystem, root: str, uri: str):
        self._fs = fs
        self._root = root.rstrip("/")
        self._uri = uri.rstrip("/")

    def where(self, path: str = "") -> str:
        base, mark, query = self._uri.partition("?")
        return f"{base}/{checked(path)}{mark}{query}" if path else self._uri

    def read(self, path: str) -> bytes:
        with (
            telling(self.where(path), "read"),
            self._fs.open_input_stream(self._at(path)) as stream,
        ):
            return stream.read()

    def write(self, path: str, data: bytes) -> None:
        place = self._at(path)
        with telling(self.where(path), "written"):
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
        return write_if_changed(self, path, data)

    def exists(self, path: str) -> bool:
        import pyarrow.fs as pafs

        with telling(self.where(path), "read"):
            return self._fs.get_file_info(self._at(path)).type != pafs.FileType.NotFound

    def list(self, folder: str) -> Names:
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._at(folder), allow_not_found=True)
        with telling(self.where(folder), "read"):
            names = [info.base_name for info in self._fs.get_file_info(selector)]
        return sorted(name for name in names if name and not name.startswith("."))

    def delete(self, path: str) -> None:
        with telling(self.where(path), "removed"), contextlib.suppress(FileNotFoundError):
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
        with telling(self.where(), "read"):
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
        return "/".join(part for part in (self._root, checked(path)) if part)

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
