"""Which files stand for which filesystem."""

from __future__ import annotations

import pyarrow.fs as pafs

from raylottery.store.local import LocalFiles
from raylottery.store.remote import RemoteFiles, files_on


def test_local_filesystems_are_used_directly(tmp_path):
    subtree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    nested = pafs.SubTreeFileSystem("a", subtree)
    for fs, root, place in [(subtree, "x", "x"), (nested, "x", "a/x"), (subtree, "", "")]:
        files = files_on(fs, root)
        assert isinstance(files, LocalFiles)
        assert files.root == tmp_path / place
    assert isinstance(files_on(pafs._MockFileSystem(), "x"), RemoteFiles)
