"""Temporary folders of killed processes go; those of living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raylottery.driver import scratch
from raylottery.driver.scratch import HELD, scratch_folder


HOLD = """
import sys
from raylottery.driver.scratch import scratch_folder
with scratch_folder("raylottery-") as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    (folder / "latest").symlink_to(folder / "deep")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temp(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def holder() -> tuple[subprocess.Popen[str], Path]:
    """Another process that has a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_there_as_long_as_it_is_needed(temp):
    with scratch_folder("raylottery-") as folder:
        assert folder.parent == temp
        assert folder.name.startswith("raylottery-")
        assert [file.name for file in folder.iterdir()] == [HELD]
    assert not list(temp.iterdir())


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temp, monkeypatch):
    dead, left = holder()
    living, kept = holder()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    assert (left / "deep/file").exists()
    with scratch_folder("raylottery-"):
        assert (left / "deep/file").exists(), "what it started may still write there"
    monkeypatch.setattr(scratch, "RESTS_S", 0.0)
    with scratch_folder("raylottery-") as mine:
        assert {path.name for path in temp.iterdir()} == {kept.name, mine.name}
        with scratch_folder("raylottery-job-") as other:
            assert mine.exists()
            assert other.exists()
    living.communicate("")
    assert living.returncode == 0
    assert not list(temp.iterdir())
    assert dead.stdin is not None
    assert dead.stdout is not None
    dead.stdin.close()
    dead.stdout.close()


def test_what_is_not_surely_ours_is_left_alone(temp, monkeypatch):
    monkeypatch.setattr(scratch, "RESTS_S", 0.0)
    (temp / "raylottery-without").mkdir()
    (temp / "raylottery-file").write_text("x")
    (temp / "elsewhere").mkdir()
    (temp / "elsewhere" / HELD).touch()
    (temp / "raylottery-link").symlink_to(temp / "elsewhere")
    (temp / "raylottery-linked").mkdir()
    (temp / "raylottery-linked" / HELD).symlink_to(temp / "elsewhere" / HELD)
    with scratch_folder("raylottery-"):
        pass
    assert {path.name for path in temp.iterdir()} == {
        "raylottery-without", "raylottery-file", "elsewhere", "raylottery-link",
        "raylottery-linked",
    }  # fmt: skip
    assert (temp / "elsewhere" / HELD).exists()
