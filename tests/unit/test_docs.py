"""Documents that are made from the code say what the code says."""

from __future__ import annotations

import importlib.util
import re

import pytest

from raylottery.spec import parse_sweep, read_sweep
from raylottery.store.schemas import ROUNDS
from tests.conftest import ROOT


def test_the_sweep_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.PAGE.read_text() == reference.page(), "run: python docs/reference.py"


def test_the_table_reference_names_every_column_of_rounds():
    text = (ROOT / "docs/tables.md").read_text()
    section = text.split("## rounds.parquet")[1].split("## curves.parquet")[0]
    named = {
        name
        for row in re.findall(r"^\| ([a-z_, ]+) \|", section, re.MULTILINE)
        for name in row.split(", ")
    }
    assert named - {"column"} == set(ROUNDS.names)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_sweep_is_valid_and_named_after_its_file(path):
    assert read_sweep(path).name == path.stem


@pytest.mark.parametrize("path", ["README.md", "docs/tour.md"])
def test_sweeps_shown_in_documents_are_valid(path):
    shown = re.findall(r"```yaml\n(name:.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert shown
    for text in shown:
        parse_sweep(text)
