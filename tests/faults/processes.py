"""Processes that a story starts: found by a mark in their environment, ended by their ids."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


BIN = Path(sys.executable).parent
MARK = "FAULTS_MARK"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether it came true in so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def marked(mark: str) -> list[int]:
    """Every process that has this mark, whoever is its parent by now."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def limit_files(pid: int, size: int) -> None:
    """The longest file that a process may write; longer ones fail as on a full disk."""
    with contextlib.suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


class Command:
    """A process in a session of its own; what it says is kept."""

    def __init__(self, *words: object, env: dict[str, str]):
        self.words = [str(word) for word in words]
        self.process = subprocess.Popen(
            self.words, env=env, cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.pid = self.process.pid
        self.heard: list[bytes] = []
        self._reader = threading.Thread(target=self._read, name="reader")
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.heard.append(line)

    @property
    def said(self) -> str:
        return b"".join(self.heard).decode(errors="replace")

    @property
    def code(self) -> int | None:
        return self.process.poll()

    @property
    def alive(self) -> bool:
        return self.code is None

    def members(self) -> list[int]:
        """The processes of its session."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.pid:
                    found.append(int(folder.name))
        return found

    def kill_all(self) -> None:
        """As a power cut does."""
        for pid in self.members():
            send(pid, signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        """Ended for good, and its pipe closed; it may have been killed before."""
        self.kill_all()
        self._reader.join(30)
