"""A folder of this machine is atomic and exclusive besides what all filesystems are."""

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

import pytest

from raylottery.errors import Damaged, StoreError


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
from raylottery.store.local import LocalFiles
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
