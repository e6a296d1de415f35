"""The page about reading the tables: its blocks run as they stand, and three readers agree."""

from __future__ import annotations

import math
import re

import duckdb
import pandas as pd
import polars as pl
import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import TINY


PAGE = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
QUESTIONS = dict(
    re.findall(r"^## (\d\. [^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store like the one that the page speaks of, of a smaller network."""
    from raylottery.cli.progress import Diary
    from raylottery.driver.run import run
    from raylottery.spec import parse_sweep
    from raylottery.store import Store

    place = tmp_path_factory.mktemp("here")
    axes = "axes={prune.scope: [global, layerwise], rewind.weights: [init, 1ep]}"
    sweep = parse_sweep(TINY, overrides=["name=quickstart", axes])
    quiet = Diary(say=lambda line: None)
    assert run(sweep, Store.open(str(place / "results")), quiet, inline=True).exit_code == 0
    return place


def blocks(text: str) -> dict[str, str]:
    """The blocks under a question by reader."""
    found = re.findall(r"^```(python|sql)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return {code.split("\n")[0][2:] if kind == "python" else "sql": code for kind, code in found}


def same(one: tuple, other: tuple) -> bool:
    """Readers add up in other orders, which the last bits show."""
    return all(
        a == b if isinstance(a, str) else math.isclose(a, b, rel_tol=1e-12)
        for a, b in zip(one, other, strict=True)
    )


def asked(code: str) -> list[tuple]:
    names: dict = {}
    exec(code, names)
    answer: pd.DataFrame | pl.DataFrame = names["answer"]
    if isinstance(answer, pd.DataFrame):
        return list(answer.itertuples(index=False, name=None))
    return answer.rows()


def test_there_are_five_questions_in_three_languages():
    assert len(QUESTIONS) == 5
    assert {tuple(blocks(text)) for text in QUESTIONS.values()} == {("pandas", "polars", "sql")}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_three_agree(folder, monkeypatch, question):
    monkeypatch.chdir(folder)
    code = blocks(QUESTIONS[question])
    told = {"pandas": asked(code["pandas"]), "polars": asked(code["polars"])}
    told["sql"] = duckdb.execute(code["sql"]).fetchall()
    assert len(told["pandas"]) >= 4
    for reader in ("polars", "sql"):
        assert len(told[reader]) == len(told["pandas"])
        for row, expected in zip(told[reader], told["pandas"], strict=True):
            assert same(row, expected), (reader, row, expected)
