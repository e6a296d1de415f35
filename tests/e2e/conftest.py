"""Small sweeps run whole, in this process, through the same functions as the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.faults.processes import BIN, Command, free_port, listening, until


TINY = """
name: tiny
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1]
axes:
  prune.scope: [global, layerwise]
controls: [random-ticket]
"""


@pytest.fixture
def run_inline() -> Callable[..., Result]:
    """Runs a sweep in this process."""

    def call(store: Path, *changes: str, text: str = TINY, **options) -> Result:
        sweep = parse_sweep(text, overrides=changes)
        watcher = Diary(say=lambda line: None)
        return run(sweep, Store.open(str(store)), watcher, inline=True, **options)

    return call


@pytest.fixture
def table() -> Callable[..., list[dict]]:
    """The rows of a sweep's table."""

    def read(store: Path, name: str = "rounds", sweep: str = "tiny") -> list[dict]:
        return pq.read_table(store / "sweeps" / sweep / f"{name}.parquet").to_pylist()

    return read


FREE = {"seconds", "reused", "attempt", "started_at", "finished_at", "host", "device", "version"}


@pytest.fixture
def fixed() -> Callable[[list[dict]], list[dict]]:
    """Rows without the columns that may differ from run to run."""

    def strip(rows: list[dict]) -> list[dict]:
        return [{k: v for k, v in row.items() if k not in FREE} for row in rows]

    return strip


@pytest.fixture
def snapshot_of() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every table under a store."""

    def read(store: Path) -> dict[str, bytes]:
        return {
            str(p.relative_to(store)): p.read_bytes() for p in store.rglob("sweeps/*/*.parquet")
        }

    return read


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an S3 server on this machine, as a URI to fill in a folder's name."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (keys | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
            patch.setenv(name, value)
        server = Command(BIN / "moto_server", "-H", "127.0.0.1", "-p", port, env=dict(os.environ))
        try:
            assert until(lambda: listening(port), 60)
            pafs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1",
                allow_bucket_creation=True,
            ).create_dir("lottery")  # fmt: skip
            there = quote(f"127.0.0.1:{port}", safe="")
            yield f"s3://lottery/{{}}?scheme=http&region=us-east-1&endpoint_override={there}"
        finally:
            server.end()
