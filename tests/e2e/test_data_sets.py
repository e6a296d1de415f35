"""Data sets by the real command: fetched once, listed, and refused where they are missing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from raylottery.cli import main
from raylottery.cli.progress import Bars, bars
from raylottery.driver.doctor import fetch
from raylottery.spec import ClassifierTrainer, parse_sweep
from raylottery.trainers.classifier import data
from tests.published import publish


SWEEP = """\
name: photos
trainer: {kind: classifier, dataset: cifar10, model: mlp-8, length: 2ep, batch_size: 9, lr: 0.01}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
eval: {every: 1it}
"""


class Silent:
    """Says nothing of a fetch."""

    def say(self, line: str) -> None:
        pass

    def begins(self, file: str, total: int | None) -> None:
        pass

    def arrived(self, count: int) -> None:
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A data folder with nothing in it."""
    monkeypatch.setenv("RAYLOTTERY_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def sweep(tmp_path) -> Path:
    file = tmp_path / "photos.yaml"
    file.write_text(SWEEP)
    return file


def test_fetch_then_load(weird_path, folder, capsys, monkeypatch):
    whole = publish("cifar10", weird_path, monkeypatch)
    words = ["doctor", "--fetch", "cifar10", "--from", weird_path.as_uri()]
    size = (weird_path / "cifar-10-python.tar.gz").stat().st_size
    assert main(words) == 0
    said, problems = capsys.readouterr()
    assert problems == ""
    assert said.splitlines() == [
        f"fetching cifar-10-python.tar.gz ({size / 1000:.0f} kB)",
        "packing cifar10",
        f"cifar10 is in {folder / 'cifar10-50-v1'}",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out == f"cifar10 is there already, in {folder / 'cifar10-50-v1'}\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "dataset": "cifar10",
        "folder": str(folder / "cifar10-50-v1"),
        "fetched": False,
    }
    spec = parse_sweep(SWEEP).trainer
    assert isinstance(spec, ClassifierTrainer)
    found = data.load(spec, "cpu")
    assert torch.equal(found.test.x, torch.from_numpy(whole.x_test))


def test_doctor_lists_what_is_here_and_how_to_get_the_rest(weird_path, capsys, monkeypatch):
    publish("cifar10", weird_path, monkeypatch)
    fetch("cifar10", weird_path.as_uri(), Silent())
    assert main(["doctor", "--json"]) == 0
    found = {f["what"]: (f["sound"], f["found"]) for f in json.loads(capsys.readouterr().out)}
    assert found["data set cifar10"] == (True, "45 training, 5 validation, 10 test")
    assert found["data set cifar-like"] == (True, "4500 training, 500 validation, 1000 test")
    assert found["data set mnist"] == (
        True,
        "not here; get it with: raylottery doctor --fetch mnist",
    )


def test_doctor_says_what_is_wrong_with_a_data_set(weird_path, folder, capsys, monkeypatch):
    publish("cifar10", weird_path, monkeypatch)
    fetch("cifar10", weird_path.as_uri(), Silent())
    (folder / "cifar10-50-v1" / "test-x.npy").write_bytes(b"")
    assert main(["doctor"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert line.startswith("WRONG  data set cifar10: trainer.dataset: cifar10 is damaged in ")
    assert line.endswith("Put it right with: raylottery doctor --fetch cifar10")


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_missing_data_set_is_refused_before_anything_starts(sweep, tmp_path, capsys, command):
    store = tmp_path / "store"
    assert main([command, str(sweep), "--store", str(store)]) == 2
    said, problems = capsys.readouterr()
    assert said == ""
    assert problems == (
        "raylottery: photos: trainer.dataset: cifar10 is not on this machine. Fetch it once "
        "with: raylottery doctor --fetch cifar10\n"
    )
    assert not (store / "sweeps").exists()


def test_a_partial_data_set_is_refused_too(sweep, weird_path, folder, capsys, monkeypatch):
    publish("cifar10", weird_path, monkeypatch)
    fetch("cifar10", weird_path.as_uri(), Silent())
    assert main(["plan", str(sweep)]) == 0
    file = folder / "cifar10-50-v1" / "train-x.npy"
    file.write_bytes(file.read_bytes()[:1000])
    capsys.readouterr()
    assert main(["plan", str(sweep)]) == 2
    assert "cifar10 is damaged" in capsys.readouterr().err


def test_a_sweep_trains_on_what_was_fetched(sweep, weird_path, tmp_path, capsys, monkeypatch):
    publish("cifar10", weird_path, monkeypatch)
    fetch("cifar10", weird_path.as_uri(), Silent())
    store = tmp_path / "store"
    assert main(["run", str(sweep), "--inline", "--store", str(store)]) == 0
    assert "trained 2 rounds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--fetch cifar11", 2, "--fetch cifar11: no such data set. Did you mean 'cifar10'?"),
        ("--from file:///mirror", 2, "--from says where to fetch from: say also what"),
        ("--fetch mnist --store x", 2, "--fetch fetches and --store checks: give only one"),
        ("--fetch mnist --from mirror", 2, "--from mirror: expected the http://, https:// or"),
        ("--fetch mnist --from file:///absent", 3, "mnist was not fetched, and nothing of it"),
    ],
)
def test_what_cannot_be_fetched_is_refused(capsys, words, code, said):
    assert main(["doctor", *words.split()]) == code
    assert capsys.readouterr().err.startswith(f"raylottery: {said}")


def test_a_wrong_checksum_and_an_interrupt_have_their_exit_codes(
    weird_path, folder, capsys, monkeypatch
):
    publish("mnist", weird_path, monkeypatch)
    words = ["doctor", "--fetch", "mnist", "--from", weird_path.as_uri()]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raylottery.cli.progress.Lines.arrived", interrupted)
        assert main(words) == 130
    (weird_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"another")
    assert main(words) == 1
    assert "t10k-labels-idx1-ubyte.gz is not the publisher's file" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".mnist-50-v1.lock"]


# How it looks


def test_a_bar_in_a_terminal_fills_file_by_file(weird_path, monkeypatch):
    publish("mnist", weird_path, monkeypatch)
    shown = io.StringIO()
    progress = bars(Console(file=shown, force_terminal=True, width=120))
    with progress:
        fetch("mnist", weird_path.as_uri(), Bars(progress))
    assert [task.description for task in progress.tasks] == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    assert all(task.finished for task in progress.tasks)
    assert "packing mnist" in shown.getvalue()
