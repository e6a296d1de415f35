"""Filesystems a store must work on alike, and rounds to put into it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from raylottery.spec import Lineage, Round, Stop, fingerprint, lineages, parse_sweep
from raylottery.store import Store, rounds
from raylottery.store.files import Files
from raylottery.store.local import LocalFiles
from raylottery.store.remote import files_on
from raylottery.store.schemas import CURVE, LAYER
from raylottery.store.tables import to_bytes


WEIRD = ["a b", 'it\'s "so"', "100%25", "ünïcødé-日本", "~home", "a+b=c&d#e?f"]


@pytest.fixture(params=WEIRD)
def weird(request, tmp_path) -> Path:
    return tmp_path / request.param


def _local(tmp_path: Path) -> Files:
    return files_on(pafs.LocalFileSystem(), str(tmp_path / "store"))


def _subtree(tmp_path: Path) -> Files:
    return files_on(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "store")


def _mock(tmp_path: Path) -> Files:
    return files_on(pafs._MockFileSystem(), "bucket/store")


def _mock_subtree(tmp_path: Path) -> Files:
    fs = pafs._MockFileSystem()
    fs.create_dir("bucket")
    return files_on(pafs.SubTreeFileSystem("bucket", fs), "store")


def _python(tmp_path: Path) -> Files:
    """A filesystem implemented in Python, as those of fsspec are."""
    fs = pafs.PyFileSystem(pafs.FSSpecHandler(pytest.importorskip("fsspec").filesystem("memory")))
    return files_on(fs, f"/{tmp_path.name}")


@pytest.fixture(params=[_local, _subtree, _mock, _mock_subtree, _python])
def files(request, tmp_path) -> Files:
    return request.param(tmp_path)


@pytest.fixture
def local(tmp_path) -> LocalFiles:
    return LocalFiles(tmp_path / "store")


@pytest.fixture(autouse=True)
def untold(monkeypatch) -> None:
    """A process tells of damage once: each test is one of its own."""
    monkeypatch.setattr(rounds, "_told", set())


@pytest.fixture
def store(files) -> Store:
    return Store(files)


def _make_round(seed: int = 0, parent: Round | None = None, **more: Any) -> Round:
    index = 0 if parent is None else parent.index + 1
    spec = {"schema": 1, "seed": seed, "round": index, "lr": 0.1, **more}
    if parent is not None:
        spec["parent"] = parent.key
    key = fingerprint(spec)
    return Round(
        key=key,
        parent=None if parent is None else parent.key,
        trunk=key if parent is None else parent.trunk,
        index=index,
        seed=seed,
        mask_source="dense" if parent is None else "imp",
        weight_source="init",
        rewind_step=0,
        clock=0,
        end=70,
        length=70,
        biases=False,
        exclude=(),
        spec=spec,
        prune=None,
        stop=Stop(),
    )


@pytest.fixture(scope="session")
def study() -> tuple[Lineage, ...]:
    """Two arms on the same dense rounds, two seeds, one pruned round, a control drawn twice."""
    text = """
        name: s
        trainer: {kind: classifier, dataset: mnist1d, model: mlp-30-10, length: 2ep,
                  batch_size: 100, lr: 0.002}
        prune: {rounds: 1}
        seeds: [1, 0]
        axes: {prune.scope: [layerwise, global]}
        controls: [random-ticket]
    """
    members = lineages(parse_sweep(text))
    for lineage in members:
        dense, ticket, control = lineage.rounds
        spec = {**control.spec, "control": {"name": "random-ticket", "draw": 1}}
        again = replace(control, draw=1, spec=spec, key=fingerprint(spec))
        # The property keeps what it is given: rows must be sorted whatever the order.
        vars(lineage)["rounds"] = (again, control, ticket, dense)
    return members


RESULT = {
    "density": 0.8,
    "prunable": 100,
    "kept": 80,
    "total_params": 110,
    "revived": 0,
    "metric": "accuracy",
    "score": 0.9,
    "score_at_stop": 0.91,
    "score_best": 0.92,
    "score_late": 0.89,
    "score_area": 0.7,
    "train_score": 1.0,
    "loss": 0.01,
    "supermask_score": None,
    "steps": 70,
    "env_steps": None,
    "stopped_by": "length",
    "stop_step": None,
    "digests": {},
}


def _curve(values=(0.1, 0.9)) -> bytes:
    rows = [
        {"step": step, "env_step": None, "split": "valid", "metric": "accuracy", "value": value}
        for step, value in enumerate(values)
    ]
    return to_bytes(rows, CURVE)


def _layers(kept: int = 80) -> bytes:
    row = {"layer": "fc1", "shape": "10x10", "prunable": 100, "kept": kept, "density": kept / 100}
    return to_bytes([row | {"dead_in": 0, "dead_out": 1, "flops_kept": kept}], LAYER)


def _commit(store: Store, round: Round, *, sweep: str = "s", attempt: int = 1, **result):
    return store.commit(
        round,
        files={"layers.parquet": _layers(), "curve.parquet": _curve()},
        result=RESULT | result,
        sweep=sweep,
        attempt=attempt,
        seconds=1.5,
        started_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        finished_at=datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        device="cpu",
    )


@pytest.fixture
def make_round():
    """Builds a round: `make_round(seed, parent)`; more values enter its key."""
    return _make_round


@pytest.fixture
def commit():
    """Commits a round with plausible files and results: `commit(store, round, score=0.5)`."""
    return _commit
