"""Every filesystem passes the same tests."""

from __future__ import annotations

import pytest


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


def test_what_is_moved_is_there_and_no_more_here(files):
    files.move("a/none", "b/none")
    assert files.list("b") == []
    files.write("a/t", b"x")
    files.move("a/t", "b/c/t")
    assert files.read("b/c/t") == b"x"
    assert not files.exists("a/t")
