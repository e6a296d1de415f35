"""`raylottery compare` on a sweep that was run: its forms, its questions, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import TINY


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """Two scopes and two rewind points; an arm of each block; one scope with one seed alone."""
    place = str(tmp_path_factory.mktemp("compared") / "store")
    changes = {
        "tiny": ["axes={prune.scope: [global, layerwise], rewind.weights: [init, 1ep]}"],
        "blocks": ["axes={prune.only: [['0'], ['2.*']]}", "controls=[]",
                   "rewind={weights: final, retrain: 0it}"],
        "single": ["seeds=[0]", "controls=[]"],
        "other": ["trainer.model=mlp-20", "axes={}", "controls=[]"],
    }  # fmt: skip
    quiet = Diary(say=lambda line: None)
    for name, overrides in changes.items():
        sweep = parse_sweep(TINY, overrides=[f"name={name}", *overrides])
        assert run(sweep, Store.open(place), quiet, inline=True).exit_code == 0
    return place


@pytest.fixture
def told(capsys, store) -> Callable[..., str]:
    """What `raylottery compare` prints."""

    def call(words: str) -> str:
        assert main(["compare", *words.split(), "--store", store]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


@pytest.fixture
def refused(capsys, store) -> Callable[..., str]:
    """What it says instead."""

    def call(words: str, code: int = 2) -> str:
        assert main(["compare", *words.split(), "--store", store]) == code
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return call


def test_every_form_holds_the_same_figures(told):
    words = "tiny --by prune.scope --at-density 0.5 --at-density 0.32"
    answer = json.loads(told(f"{words} --json"))
    rows = answer["rows"]
    assert [row["density"] for row in rows] == [0.5, 0.32]
    as_csv = list(csv.DictReader(io.StringIO(told(f"{words} --format csv"))))
    assert [float(row["effect"]) for row in as_csv] == [row["effect"] for row in rows]
    texts = {form: told(f"{words} --format {form}") for form in ("text", "markdown", "latex")}
    for text in texts.values():
        for row in rows:
            assert f"{100 * row['effect']:+.2f}" in text
            assert row["sentence"] in text
        assert all(note in text for note in answer["notes"])
    assert texts["markdown"].startswith("| density | prune.scope | against | effect (points) |")
    assert r"\begin{tabular}" in texts["latex"]


def test_several_fields_are_their_combinations(told):
    rows = json.loads(told("tiny --by prune.scope --by rewind.weights --json"))["rows"]
    assert {row["by"] for row in rows} == {"prune.scope, rewind.weights"}
    assert {row["value"] for row in rows} == {
        "scope=global weights=1ep", "scope=layerwise weights=init", "scope=layerwise weights=1ep",
    }  # fmt: skip


def test_flops_are_those_of_the_layers(told, store):
    """Of an mlp each weight is used once: at equal FLOPs is at equal density."""
    flops, density = (
        json.loads(told(f"tiny --by control --at-density 0.4 --matched {matched} --json"))["rows"]
        for matched in ("flops", "density")
    )
    for one, other in zip(flops, density, strict=True):
        assert one["effect"] == pytest.approx(other["effect"])
        assert "At 40 % of the dense FLOPs " in one["sentence"]
    layers = pq.read_table(f"{store}/sweeps/tiny/layers.parquet").to_pylist()
    assert {row["flops_kept"] / row["kept"] for row in layers} == {1.0}


def test_blocks_are_compared_at_what_is_left_of_each(told):
    answer = json.loads(told("blocks --by prune.only --matched pruned --json"))
    assert [(row["density"], row["n"]) for row in answer["rows"]] == [(0.5, 2)]
    assert answer["rows"][0]["updates_value"] == 0
    assert "of what each arm prunes" in answer["rows"][0]["sentence"]
    assert "--matched pruned" in told("blocks --by prune.only")


def test_one_seed_is_no_finding(told):
    text = told("single --by prune.scope --at-density 0.5")
    assert "in the one paired seed" in text


def test_published_results_stand_beside_ours(told):
    rows = json.loads(told("tiny --reference frankle2019-lenet --json"))["rows"]
    assert {row["verdict"] for row in rows} == {"not comparable"}
    assert {row["reference"] for row in rows} == {"frankle2019-lenet"}
    assert "trainer.dataset is mnist1d here, mnist there" in rows[0]["why"]
    text = told("tiny --reference frankle2019-lenet")
    assert text.startswith("frankle2019-lenet: Frankle and Carbin 2019, arXiv 1803.03635 v5\n")
    assert text.count("trainer.dataset is mnist1d here") == 1, "one reason is told once"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("tiny", ("--by prune.scope", "--reference", "compare --help")),
        ("tiny --by control --reference frankle2019-lenet", ("one of the two",)),
        ("tiny --reference frankle2019-lent", ("Did you mean 'frankle2019-lenet'?",)),
        ("tiny --reference frankle2019-lenet --format csv", ("text or with --json",)),
        ("tiny --reference frankle2019-lenet --at-density 0.1", ("leave out --at-density",)),
        ("tiny --by control --json --format csv", ("leave one out",)),
        ("tiny --by prune.scope --by control", ("Ask for it alone",)),
        ("tiny --by rewind.weigths", ("Did you mean 'rewind.weights'?",)),
        ("tiny --by prune.scope --matched flop", ("density", "flops", "pruned")),
        ("tiny --by prune.scope --format md", ("markdown",)),
        ("tiny --by prune.scope --at-density 0.01", ("outside the data", "from 0.313 to 1")),
        ("tiny other --by trainer.model", ("prunes among 1,000 parameters, mlp-12 among 600",)),
    ],
)
def test_what_cannot_be_compared_is_refused_and_says_why(refused, words, parts):
    said = refused(words)
    for part in parts:
        assert part in said
