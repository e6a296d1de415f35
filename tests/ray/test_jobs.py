"""From outside: a cluster of two nodes, a store on an S3 server, a client that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import FREE, TINY


BIN = Path(sys.executable).parent
KEYS = {
    "AWS_ACCESS_KEY_ID": "of-the-environment",
    "AWS_SECRET_ACCESS_KEY": "never-written-down",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SLOW = TINY.replace("2ep", "12ep")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: Callable[[], object], seconds: float = 120) -> object:
    """What it gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"in vain for {seconds} s"
        time.sleep(0.3)
    return found


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Server:
    """A process in a session of its own, with all that it starts there."""

    def __init__(self, *words: object, **env: str):
        self.process = subprocess.Popen(
            [str(word) for word in words], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **env},
        )  # fmt: skip

    def members(self) -> list[int]:
        """The processes of its session."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(self.process.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(pid) for pid in found.stdout.split()]

    def kill(self) -> None:
        """As a power cut does."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        self.kill()


@dataclass
class Cluster:
    head: Server
    node: Server
    port: int
    address: str
    """Of its dashboard."""


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """What the cluster's machines and the client have in their environments."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of a bucket on an S3 server of this machine."""
    port = free_port()
    server = Server(BIN / "moto_server", "-H", "127.0.0.1", "-p", port)
    wait_for(lambda: listening(port))
    pafs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1",
        access_key="x", secret_key="x", allow_bucket_creation=True,
    ).create_dir("lottery")  # fmt: skip
    there = quote(f"127.0.0.1:{port}", safe="")
    yield f"s3://lottery/{{}}?scheme=http&region=us-east-1&endpoint_override={there}"
    server.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A head and a second node, each with one CPU, with ports and folders of their own.

    Two nodes in one folder would clear away each other's files, as two machines never do.
    """
    port, board = free_port(), free_port()
    first = 20000 + os.getpid() % 20 * 500
    common = ("--block", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats")
    head = Server(
        BIN / "ray", "start", "--head", *common, f"--port={port}",
        f"--dashboard-port={board}", f"--dashboard-agent-listen-port={free_port()}",
        f"--min-worker-port={first}", f"--max-worker-port={first + 199}",
        f"--temp-dir={tmp_path_factory.mktemp('ray')}",
    )  # fmt: skip
    wait_for(lambda: listening(port) and listening(board))
    node = Server(
        BIN / "ray", "start", *common, f"--address=127.0.0.1:{port}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--min-worker-port={first + 200}", f"--max-worker-port={first + 399}",
        f"--temp-dir={tmp_path_factory.mktemp('node')}",
    )  # fmt: skip
    yield Cluster(head, node, port, f"http://127.0.0.1:{board}")
    node.stop()
    head.stop()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("sweep") / "slow.yaml"
    file.write_text(SLOW)
    return file


def fixed(table) -> list[dict]:
    free = [name for name in FREE if name in table.column_names]
    return table.drop_columns(free).to_pylist()


def tables(uri: str) -> dict[str, list[dict]]:
    fs, root = pafs.FileSystem.from_uri(uri)
    return {
        name: fixed(pq.read_table(f"{root}/sweeps/tiny/{name}.parquet", filesystem=fs))
        for name in ("rounds", "curves", "layers")
    }


def status(raylottery, store: str) -> dict:
    done = raylottery("status", "tiny", "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_job_brings_its_own_raylottery_and_is_cancelled_through_the_store(
    raylottery, cluster, bucket, sweep
):
    store = bucket.format("cancelled")
    words = ("--address", cluster.address, "--store", store, "--env", "wheel", "--json")
    told = json.loads(raylottery("submit", sweep, *words, "--set", "trainer.length=60ep").stdout)
    wait_for(lambda: status(raylottery, store)["runs"])
    done = raylottery("cancel", "tiny", "--store", store, "--now")
    assert "ends at once" in done.stdout, done.stderr
    wait_for(lambda: not status(raylottery, store)["runs"])

    def over() -> dict | None:
        shown = raylottery("status", "tiny", "--store", store, "--address", cluster.address,
                           "--json")  # fmt: skip
        [job] = json.loads(shown.stdout)["jobs"]
        return job if job["status"] == "FAILED" else None

    assert wait_for(over)
    fs, root = pafs.FileSystem.from_uri(store)
    about = json.loads(fs.open_input_stream(f"{root}/sweeps/tiny/provenance.json").read())
    assert "working_dir_files" in about["command"][0], "it ran what was sent along"
    lines = raylottery("logs", "tiny", "--store", store, "--address", cluster.address).stdout
    assert f"== job {told['job']}" in lines
    assert "interrupted: " in lines


def test_a_sweep_goes_on_without_its_client_and_without_a_node(
    raylottery, cluster, bucket, sweep, tmp_path
):
    store = bucket.format("outlives")

    def done_rounds() -> int:
        now = status(raylottery, store)
        return now["rounds"] - now["rounds_to_do"]

    # Handed in and followed; the client is killed, and the job goes on.
    words = ("submit", sweep, "--address", cluster.address, "--store", store)
    client = subprocess.Popen(
        [sys.executable, "-m", "raylottery", *map(str, words), "--follow"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip
    assert client.stdout is not None
    first = client.stdout.readline()
    assert "18 rounds to train" in first, client.communicate()
    job = first.partition(":")[0]
    shown = [client.stdout.readline() for _ in range(3)]
    assert [line.split()[:3] for line in shown] == [
        ["raylottery", word, "tiny"] for word in ("status", "logs", "cancel")
    ]
    assert any("on this machine's Ray cluster" in line for line in client.stdout)
    client.kill()
    client.communicate()

    # It cannot be handed in twice.
    again = raylottery(*words)
    assert again.returncode == 2
    assert job in again.stderr
    assert "raylottery cancel tiny" in again.stderr
    live = status(raylottery, store)
    assert [run["job"] for run in live["runs"]] == [job]
    assert live["waiting"] == []

    # A node is lost in the middle; its lineages are trained on, on the other.
    wait_for(lambda: done_rounds() >= 4)
    cluster.node.kill()
    wait_for(lambda: not status(raylottery, store)["runs"], 240)
    inline = tmp_path / "inline"
    run = raylottery("run", sweep, "--store", inline, "--inline")
    assert run.returncode == 0, run.stderr
    assert tables(store) == tables(str(inline))

    # Finished: nothing is submitted any more.
    over = raylottery(*words)
    assert (over.returncode, over.stderr) == (0, "")
    assert "nothing is submitted" in over.stdout
    told = raylottery("logs", "tiny", "--store", store, "--address", cluster.address, "--json")
    [driver] = [one for one in json.loads(told.stdout) if one["job"]]
    assert "trained" in driver["log"]

    # Both nodes are gone; the store answers.
    cluster.head.kill()
    gone = raylottery("status", "tiny", "--store", store)
    assert gone.returncode == 0, gone.stderr
    assert "18 of 18 distinct rounds done" in gone.stdout
    kept = json.loads(raylottery("logs", "tiny", "--store", store, "--json").stdout)
    assert len(kept) == 4
    assert all("round 2 ticket" in one["log"] for one in kept)
    unreachable = raylottery(*words)
    assert unreachable.returncode == 3
    assert "no Ray dashboard answers" in unreachable.stderr
    for text in every_text(store):
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text
        assert KEYS["AWS_ACCESS_KEY_ID"] not in text


def every_text(uri: str) -> Iterator[str]:
    fs, root = pafs.FileSystem.from_uri(uri)
    for info in fs.get_file_info(pafs.FileSelector(root, recursive=True)):
        if info.is_file:
            yield fs.open_input_stream(info.path).read().decode(errors="replace")
