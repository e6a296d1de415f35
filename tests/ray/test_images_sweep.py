"""The question of a study on images, from the shipped sweep to the answer, on shares of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.driver.watch import Result
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from tests.shipped import short_form


pytestmark = pytest.mark.usefixtures("local_ray")

TEXT = (Path(__file__).parents[2] / "sweeps/cifarlike-scope-rewind.yaml").read_text()
NAME = "images"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, local_ray) -> tuple[Path, Result, list[str]]:
    """The short form with two seeds, a quarter of a logical GPU for each trial."""
    store = tmp_path_factory.mktemp("images")
    changes = [*short_form(TEXT), f"name={NAME}", "seeds=[0, 1]", "resources.gpus=0.25"]
    heard: list[str] = []
    watcher = Diary(say=heard.append)
    return store, run(parse_sweep(TEXT, overrides=changes), Store.open(store), watcher), heard


def test_four_trials_share_a_gpu_and_the_arms_of_a_seed_their_dense_network(trained, rows):
    store, result, heard = trained
    assert result.exit_code == 0
    assert "4 at a time" in heard[0]
    assert len(result.ledger.trained) == 2 * (1 + 4 * 2)
    table = rows(store, NAME)
    assert len(table) == 2 * 4 * 3
    assert len({row["key"] for row in table if row["round"] == 0}) == 2
    assert all(row["revived"] == 0 for row in table)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said where torch sees no GPU")
def test_a_trial_says_why_it_trains_on_the_cpu(trained):
    store, result, _ = trained
    for line in lineages(result.plan.sweep):
        log = (store / layout.log(NAME, line.id)).read_text()
        assert "on cpu, for torch sees no GPU here" in log


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("prune.scope", ("layerwise", "global")),
        ("rewind.weights", ("weights=1ep", "weights=init")),
    ],
)
def test_each_axis_has_its_answer_in_the_parquet_alone(trained, capsys, monkeypatch, by, names):
    store, _, _ = trained
    answers = []
    for left in ("all of the store", "its tables"):
        if left == "its tables":
            (store / "rounds").rename(store / "rounds-are-gone")
        try:
            words = ("compare", NAME, "--by", by, "--at-density", "0.5", "--store", store)
            assert main([*map(str, words)]) == 0
        finally:
            if left == "its tables":
                (store / "rounds-are-gone").rename(store / "rounds")
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    for name in names:
        assert name in answers[0]
    assert "2 paired seeds" in answers[0]
