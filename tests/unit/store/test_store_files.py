"""Every filesystem passes the same tests; the local one is atomic and exclusive besides."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from raylottery.errors import Damaged, StoreError
from raylottery.store.files import LocalFiles, RemoteFiles, files_on


def test_what_is_written_is_read_and_replaced(files):
    files.write("a/b/c.bin", b"one")
    files.write("a/b/c.bin", b"\x00two\xff")
    assert files.read("a/b/c.bin") == b"\x00two\xff"
    assert files.exists("a/b/c.bin")
    assert files.exists("a/b")


def test_what_is_not_there_is_said_so(files):
    files.write("here", b"")
    with pytest.raises(FileNotFoundError):
        files.read("a/b")
    assert not files.exists("a/b")
    assert files.list("a") == []
    files.delete("a/b")
    files.delete("here")
    assert not files.exists("here")


def test_lists_names_sorted_without_hidden_ones(files):
    for name in ("b", "a.json", ".hidden", "c/d"):
        files.write(f"folder/{name}", b"x")
    assert files.list("folder") == ["a.json", "b", "c"]


def test_only_the_first_creates_exclusively(files):
    assert files.create_exclusive("x/y", b"first")
    assert not files.create_exclusive("x/y", b"second")
    assert files.read("x/y") == b"first"
    files.delete("x/y")
    assert files.create_exclusive("x/y", b"third")


def test_equal_bytes_are_not_written_again(files):
    assert files.write_if_changed("t", b"1")
    assert not files.write_if_changed("t", b"1")
    assert files.write_if_changed("t", b"2")
    assert files.read("t") == b"2"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a/", "a/\0b"])
def test_no_path_leads_out_of_the_root(files, path):
    for refuse in (files.read, files.exists, files.list, files.delete):
        with pytest.raises(ValueError, match="no path inside a store"):
            refuse(path)
    with pytest.raises(ValueError, match="no path inside a store"):
        files.write(path, b"x")


def test_local_filesystems_are_used_directly(tmp_path):
    subtree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    nested = pafs.SubTreeFileSystem("a", subtree)
    for fs, root, place in [(subtree, "x", "x"), (nested, "x", "a/x"), (subtree, "", "")]:
        files = files_on(fs, root)
        assert isinstance(files, LocalFiles)
        assert files.root == tmp_path / place
    assert isinstance(files_on(pafs._MockFileSystem(), "x"), RemoteFiles)


def test_equal_bytes_leave_a_local_file_alone(local):
    local.write("t", b"1")
    before = os.stat(local.where("t"))
    local.write_if_changed("t", b"1")
    after = os.stat(local.where("t"))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(local, monkeypatch):
    local.write("a/t", b"old")

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreError, match=r"a/t cannot be written: No space left.*again"):
        local.write("a/t", b"new")
    assert local.read("a/t") == b"old"
    assert os.listdir(local.where("a")) == ["t"]


def test_what_cannot_be_read_is_named(local):
    local.write("a/t", b"x")
    with pytest.raises(Damaged, match="store/a is damaged: it is a folder, and a file belongs"):
        local.read("a")
    with pytest.raises(FileNotFoundError):
        local.read("a/t/u")
    assert local.list("a/t") == []


def test_a_folder_where_a_file_belongs_is_moved_out_of_the_way(local, caplog):
    for act in (lambda: local.write("a/t", b"new"), lambda: local.delete("a/t")):
        local.write("a/t/inside", b"kept")
        act()
        [hidden] = [name for name in os.listdir(local.where("a")) if name.startswith(".t.")]
        assert Path(local.where("a"), hidden, "inside").read_bytes() == b"kept"
        assert f"it was moved to {hidden}" in caplog.text
        shutil.rmtree(Path(local.where("a"), hidden))
        local.delete("a/t")
    assert local.list("a") == []


def test_a_file_where_a_folder_belongs_is_moved_out_of_the_way(local):
    local.write("a/b", b"kept")
    local.write("a/b/c/t", b"new")
    assert local.read("a/b/c/t") == b"new"
    [hidden] = [name for name in os.listdir(local.where("a")) if name.startswith(".b.")]
    assert Path(local.where("a"), hidden).read_bytes() == b"kept"


def test_what_is_moved_is_there_and_no_more_here(files):
    files.move("a/none", "b/none")
    assert files.list("b") == []
    files.write("a/t", b"x")
    files.move("a/t", "b/c/t")
    assert files.read("b/c/t") == b"x"
    assert not files.exists("a/t")


def test_files_follow_the_umask(local):
    before = os.umask(0o027)
    try:
        local.write("t", b"x")
    finally:
        os.umask(before)
    assert os.stat(local.where("t")).st_mode & 0o777 == 0o640


def test_without_hard_links_creation_is_still_whole_and_first_come(local, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert local.create_exclusive("a/t", b"first")
    assert not local.create_exclusive("a/t", b"second")
    assert local.read("a/t") == b"first"
    assert os.listdir(local.where("a")) == ["t"]


def test_one_of_many_threads_creates(local):
    threads, start, won = [], threading.Barrier(8), []

    def create(number: int, turn: int):
        start.wait()
        if local.create_exclusive(f"t{turn}", str(number).encode()):
            won.append((turn, number))

    for turn in range(25):
        threads = [threading.Thread(target=create, args=(n, turn)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(turn for turn, _ in won) == list(range(25))
    assert all(local.read(f"t{turn}") == str(number).encode() for turn, number in won)


WRITER = """
import sys
from raylottery.store.files import LocalFiles
files = LocalFiles(sys.argv[1])
number = 0
while True:
    number += 1
    files.write("f", bytes([number % 251]) * 400_000)
    if number == 3:
        print("begun", flush=True)
"""


def test_a_killed_writer_leaves_whole_files_only(local):
    for delay in (0.0, 0.003, 0.007, 0.011):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(local.root)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        data = local.read("f")
        assert len(data) == 400_000
        assert data == data[:1] * 400_000
        assert local.list("") == ["f"]
