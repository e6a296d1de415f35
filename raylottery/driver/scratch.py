"""Temporary folders that a killed process does not leave for ever.

Whoever has one holds a lock on a file in it, which the kernel frees however the process ends; the
next one to be made removes those that nobody holds. The file is locked before it gets its name, so
no folder of a living process is ever seen without.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


HELD = ".held"
RESTS_S = 60.0
"""What a killed process started may live, and write there, for a little longer."""


@contextmanager
def scratch_folder(prefix: str) -> Generator[Path]:
    """A folder for as long as it is needed; first, those of that name whose makers are gone go."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        remove_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with (folder / f"{HELD}-").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (folder / f"{HELD}-").rename(folder / HELD)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def remove_if_left(folder: Path) -> None:
    """Remove a folder of this user's that nobody holds any more."""
    with suppress(OSError):  # another one removes it too, or it is none of ours
        if folder.lstat().st_uid != os.geteuid():
            return
        held = os.open(folder / HELD, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - max(path.lstat().st_mtime for path in folder.rglob("*")) < RESTS_S:
                return
            for entry in folder.iterdir():
                if entry.name != HELD:  # last, so that what cannot go now is seen again
                    whole = entry.is_dir() and not entry.is_symlink()
                    shutil.rmtree(entry) if whole else entry.unlink()
            shutil.rmtree(folder)
        finally:
            os.close(held)
