"""Where a story is played: its folders, its store, its Ray, and the runs on them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from unittest.mock import patch
from urllib.parse import quote

import pyarrow.fs as pafs

from raylottery.driver.cluster import ENVIRONMENT
from raylottery.store import Store
from raylottery.store.local import LocalFiles
from raylottery.store.remote import files_on
from tests.faults.processes import (
    BIN,
    MARK,
    Command,
    free_port,
    is_alive,
    listening,
    marked,
    send,
    until,
)
from tests.faults.s3 import Line
from tests.faults.stories import Story


HOOKS = Path(__file__).parent / "hooks"
ROOT = Path(__file__).parent.parent.parent
KEYS = {
    "AWS_ACCESS_KEY_ID": "of-a-story",
    "AWS_SECRET_ACCESS_KEY": "of-a-story",
    "AWS_EC2_METADATA_DISABLED": "true",
}
TMPFS_BYTES = 4 << 20
STARTUP_S = 90.0
GONE_S = 45.0
"""Until no process of a killed driver is left."""
NAME = "story"


class Workshop:
    """What stories share: data sets, an S3 server, tables of undisturbed runs."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rlf-"))
        (self.folder / "data").mkdir()
        self.undisturbed: dict[str, Path] = {}
        self._s3: Command | None = None
        self._s3_port = 0

        self._environment = patch.dict(
            os.environ,
            {
                **ENVIRONMENT,
                **KEYS,
                "RAY_AUTH_MODE": "disabled",
                "RAYLOTTERY_DATA": str(self.folder / "data"),
                "MPLCONFIGDIR": str(self.folder / "fonts"),
            },
        )

    def __enter__(self) -> Workshop:
        self._environment.start()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # As a shell leaves it for what runs in its background: the runs would inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return self

    def __exit__(self, *error: object) -> None:
        if self._s3 is not None:
            self._s3.end()
        self._environment.stop()
        shutil.rmtree(self.folder)

    def environment(self) -> dict[str, str]:
        left_out = ("RAY_ADDRESS", "RAYLOTTERY_STORE")
        return {name: value for name, value in os.environ.items() if name not in left_out}

    def s3_port(self) -> int:
        """Of a server that is started for the first story that needs one."""
        if self._s3 is None:
            self._s3_port = free_port()
            words = ("-H", "127.0.0.1", "-p", self._s3_port)
            self._s3 = Command(BIN / "moto_server", *words, env=self.environment())
            assert until(lambda: listening(self._s3_port), STARTUP_S), self._s3.said
        return self._s3_port

    def store_without_disturbance(self, story: Story) -> Path:
        """The store of a run of the story's sweep that nothing disturbed, made once."""
        if story.sweep not in self.undisturbed:
            folder = self.folder / f"undisturbed-{len(self.undisturbed)}"
            folder.mkdir()
            (folder / "story.yaml").write_text(story.sweep)
            env = {**self.environment(), "TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
            (folder / "ray").mkdir()
            run = subprocess.run(
                [sys.executable, "-m", "raylottery", "run", folder / "story.yaml",
                 "--store", folder / "store", "--inline"],
                cwd="/", env=env, capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            if run.returncode:
                raise RuntimeError(f"the undisturbed run failed: {run.stdout}{run.stderr}")
            self.undisturbed[story.sweep] = folder / "store"
        return self.undisturbed[story.sweep]


class Ear:
    """Hears which rounds begin and which are committed, in order, as hooks/ tells it."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self.events: list[tuple[str, str, int]] = []
        """(`begin` or `commit`, key, process)."""
        self.news = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                verb, key, pid = self._socket.recv(1024).decode().split()
            except TimeoutError:
                continue
            with self.news:
                self.events.append((verb, key, int(pid)))
                self.news.notify_all()

    def committed(self) -> set[str]:
        return {key for verb, key, _ in self.events if verb == "commit"}

    def at_work(self) -> list[int]:
        """The living processes that have begun a round and not committed it."""
        open_: Counter[int] = Counter()
        for verb, _, pid in self.events:
            open_[pid] = 1 if verb == "begin" else 0
        return [pid for pid, at_it in open_.items() if at_it and is_alive(pid)]


class Stage:
    """One story's own world; nothing of it is left afterwards."""

    def __init__(self, story: Story, workshop: Workshop):
        self.story = story
        self.workshop = workshop
        self.mark = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="rls-"))
        self.sweep = self.folder / "story.yaml"
        self.sweep.write_text(story.sweep)
        self.line: Line | None = None
        self.place = self.folder / "disk"
        self.place.mkdir()
        self.mounted = False
        self.runs: list[Command] = []
        self.cluster: list[Command] = []
        self.address = ""
        self.nodes = 0
        self.extra_env: dict[str, str] = {}
        self.log: list[str] = []
        self.began = time.monotonic()
        self.left_behind: list[str] = []

    def __enter__(self) -> Stage:
        self.ear = Ear(self.folder / "ear")
        return self

    def build(self) -> None:
        """What takes a while, or may fail: the store and what it lies on."""
        (self.folder / "ray").mkdir()
        if self.story.store == "tmpfs":
            self.mounted = mount(self.place)
            if not self.mounted:
                self.say("no mount is permitted here: the store is a folder")
        self.uri = str(self.place / "store")
        if self.story.store == "s3":
            self.line = Line(self.workshop.s3_port())
            self.uri = make_bucket(self.workshop.s3_port(), self.line.port, f"b{self.mark}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for run in self.alive:
            run.kill_all()
        # A driver that was killed cannot stop its Ray, which has to see for itself.
        mine = {pid for node in self.cluster for pid in node.members()}
        self.sweep_up("of a run", mine)
        self.stop_cluster()
        self.sweep_up("of a cluster", set())
        for run in self.runs:
            run.end()
        if self.line is not None:
            self.line.close()
        self.ear.close()
        if self.mounted:
            subprocess.run(["umount", self.place], check=True)
        shutil.rmtree(self.folder)

    def sweep_up(self, whose: str, spared: set[int]) -> None:
        """Wait until no process is left; tell of those that are, and end them."""
        if not until(lambda: not {*marked(self.mark)} - spared, GONE_S, every=0.3):
            for pid in {*marked(self.mark)} - spared:
                self.left_behind.append(f"left behind {whose}: {command_of(pid)}")
                send(pid, signal.SIGKILL)

    def say(self, line: str) -> None:
        self.log.append(f"{time.monotonic() - self.began:6.2f} s  {line}")

    # Runs

    def environment(self) -> dict[str, str]:
        python = os.pathsep.join([str(HOOKS), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {
            **self.workshop.environment(),
            MARK: self.mark,
            "FAULTS_EVENTS": str(self.folder / "ear"),
            "PYTHONPATH": python.rstrip(os.pathsep),
            "TMPDIR": str(self.folder),
            "RAY_TMPDIR": str(self.folder),
            **self.extra_env,
        }

    def run(self) -> Command:
        """Another `raylottery run` of the sweep."""
        words: list[object] = ["run", self.sweep, "--store", self.uri]
        if self.story.place == "inline":
            words.append("--inline")
        else:
            words += ["--max-concurrent", self.story.workers]
        if self.story.place == "nodes":
            self.start_cluster()
            words += ["--address", self.address]
        command = Command(sys.executable, "-m", "raylottery", *words, env=self.environment())
        self.runs.append(command)
        self.say(f"run {len(self.runs)} begins, process {command.pid}")
        return command

    @property
    def alive(self) -> list[Command]:
        return [run for run in self.runs if run.alive]

    def store(self) -> Store:
        """By a line that is never bad; made by the first run."""
        if self.line is None:
            return Store(LocalFiles(self.uri))
        return Store(files_on(*pafs.FileSystem.from_uri(self.sure_uri)))

    @property
    def sure_uri(self) -> str:
        if self.line is None:
            return self.uri
        return self.uri.replace(str(self.line.port), str(self.workshop.s3_port()))

    # A cluster of two machines

    def start_cluster(self) -> None:
        """A head and a second node with a CPU each, unless they are up.

        Two nodes in one folder would clear away each other's files, as two machines never do.
        """
        if self.cluster and self.cluster[0].alive:
            return
        self.stop_cluster()
        port, self.nodes = free_port(), self.nodes + 1
        common = ("--block", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats",
                  "--object-store-memory=100000000")  # fmt: skip
        folders = [self.folder / f"{name}{self.nodes}" for name in "hn"]
        ray = self.folder / "env/bin/python", "-m", "ray.scripts.scripts", "start"
        if not ray[0].exists():  # Ray starts no workers from a path with a space
            (self.folder / "env").symlink_to(sys.prefix)
        head = Command(
            *ray, "--head", *common, f"--port={port}",
            "--include-dashboard=false", f"--temp-dir={folders[0]}", env=self.environment(),
        )  # fmt: skip
        assert until(lambda: listening(port), STARTUP_S), head.said
        node = Command(
            *ray, *common, f"--address=127.0.0.1:{port}",
            f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={folders[1]}",
            env=self.environment(),
        )  # fmt: skip
        self.cluster, self.address = [head, node], f"127.0.0.1:{port}"
        joined = re.compile("Ray runtime started")
        assert until(lambda: bool(joined.search(node.said)), STARTUP_S), node.said
        self.say(f"a cluster of two nodes is up at {self.address}")

    def stop_cluster(self) -> None:
        for node in reversed(self.cluster):
            if node.alive:
                node.process.terminate()
                until(lambda node=node: not node.alive, 20)
            node.end()
        self.cluster = []


def mount(folder: Path) -> bool:
    """A small filesystem of its own at a folder; False where that is not permitted."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", folder],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def make_bucket(server: int, line: int, name: str) -> str:
    """The URI of a store in a new bucket, by the line."""
    pafs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{server}", scheme="http", region="us-east-1",
        access_key="x", secret_key="x", allow_bucket_creation=True,
    ).create_dir(name)  # fmt: skip
    there = quote(f"127.0.0.1:{line}", safe="")
    return f"s3://{name}/store?scheme=http&region=us-east-1&endpoint_override={there}"


def command_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return f"{pid}, gone"
    return f"{pid} {words.decode(errors='replace')[:120]}"
