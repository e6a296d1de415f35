"""What a person may write after `--store`, and what is refused before anything is written."""

from __future__ import annotations

import os

import pytest

from raylottery.errors import NotFoundError, UsageError
from raylottery.store import Store
from raylottery.store.opening import find_files, open_files, writable_files


def test_plain_paths_mean_themselves(weird, make_round, commit):
    round = make_round()
    commit(Store.open(str(weird)), round)
    assert weird.is_dir()
    assert [path.name for path in weird.parent.iterdir()] == [weird.name]
    store = Store.existing(weird)
    assert store.done([round.key]) == {round.key}
    assert Store.existing(store.uri).done([round.key]) == {round.key}


def test_relative_paths_and_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text, place in [("./results", "results"), ("x y", "x y"), ("~/r", "home/r")]:
        store = Store.open(text)
        assert store.uri == str(tmp_path / place)
        assert not (tmp_path / place).exists(), "the first write makes it"


def test_file_uris_are_decoded(tmp_path):
    assert Store.open(f"file://{tmp_path}/a%20b").uri == str(tmp_path / "a b")
    assert Store.open(f"file://localhost{tmp_path}/c").uri == str(tmp_path / "c")
    with pytest.raises(UsageError, match="no path of a store"):
        Store.open("file://elsewhere/x")


def test_opening_to_read_makes_nothing(tmp_path):
    for missing in (tmp_path / "none", tmp_path / "a" / "b"):
        with pytest.raises(NotFoundError, match=r"no store at .*Check --store"):
            open_files(missing)
        assert find_files(missing) is None
        assert Store.find(missing) is None
    assert list(tmp_path.iterdir()) == []


def test_a_refused_open_writes_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/below", "file/a/b"):
        with pytest.raises(UsageError, match=r"file.*Give a folder that can be written"):
            writable_files(tmp_path / place)
        with pytest.raises(UsageError, match=r"file.*Give a folder that can be written"):
            open_files(tmp_path / place)
    too_long = tmp_path / "new" / ("n" * 300)
    with pytest.raises(UsageError, match="File name too long"):
        writable_files(too_long)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_takes_no_files_is_refused():
    with pytest.raises(UsageError, match=r"the store /proc/store cannot be used: .*--store"):
        writable_files("/proc/store")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        writable_files(tmp_path / "store")
    tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_no_path_at_all(text):
    with pytest.raises(UsageError, match="no path of a store"):
        writable_files(text)


def test_uris_open_through_pyarrow():
    store = Store.open("mock://bucket/a/b")
    assert store.uri == "mock://bucket/a/b"
    store.files.write("x/y", b"1")
    assert store.files.list("x") == ["y"]
    assert Store.find("mock://bucket") is None  # each opening is another one
    with pytest.raises(NotFoundError, match="no store at mock://bucket"):
        Store.existing("mock://bucket")


def test_cloud_uris_know_their_filesystem(monkeypatch):
    import pyarrow.fs as pafs

    asked = []

    class Clouds:
        @staticmethod
        def from_uri(uri):
            asked.append(uri)
            return pafs._MockFileSystem(), "bucket/results"

    monkeypatch.setattr(pafs, "FileSystem", Clouds)
    for uri in ("s3://bucket/a%20b?region=x", "gs://bucket/results"):
        store = Store.open(uri)
        assert asked.pop() == store.uri == uri
    assert store.files.where("x") == "gs://bucket/results/x"


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("s4://bucket", "Did you mean 's3'"),
        ("http://host/x", "Valid: s3, gs"),
        ("s3://a bucket/x", "syntax error"),
    ],
)
def test_uris_that_nobody_serves_are_refused(uri, hint):
    with pytest.raises(UsageError, match=hint):
        writable_files(uri)


def test_a_store_that_does_not_answer_is_not_found(monkeypatch):
    import pyarrow.fs as pafs

    class Dead:
        @staticmethod
        def from_uri(uri):
            raise OSError("could not connect")

    monkeypatch.setattr(pafs, "FileSystem", Dead)
    with pytest.raises(NotFoundError, match=r"s3://b does not answer: could not connect"):
        Store.open("s3://b")
