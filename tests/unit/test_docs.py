"""Documents that are made from the code say what the code says."""

from __future__ import annotations

import importlib.util
import json
import re

import jsonschema
import pytest
import yaml

from raylottery.spec import parse_sweep, read_sweep
from raylottery.store.schemas import ANALYSES, ROUNDS
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def reference():
    """The script that writes the reference."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_sweep_reference_is_up_to_date(reference):
    assert reference.SCHEMA.read_text() == reference.schema(), "run: python docs/reference.py"
    assert reference.PAGE.read_text() == reference.page(), "run: python docs/reference.py"


def test_the_table_reference_names_every_column_of_rounds():
    text = (ROOT / "docs/tables.md").read_text()
    section = text.split("## rounds.parquet")[1].split("## curves.parquet")[0]
    assert columns(section) == set(ROUNDS.names)


@pytest.mark.parametrize("kind", ANALYSES)
def test_the_reference_of_probes_names_every_column(kind):
    text = (ROOT / "docs/probes.md").read_text()
    common, *sections = re.split(r"^## (?=[a-z]+$)", text, flags=re.MULTILINE)
    [own] = [section for section in sections if section.startswith(f"{kind}\n")]
    shared = columns(common.split("controls too")[1])
    for_controls = {"control", "lineage_mode", "draw"}
    if kind in ("connectivity", "overlap"):
        shared -= for_controls
    assert shared | columns(own) == set(ANALYSES[kind].names)


def columns(text: str) -> set[str]:
    """What a document's tables of columns name."""
    tables = re.findall(r"^\| column \|.*\n((?:\|.*\n?)+)", text, re.MULTILINE)
    rows = re.findall(r"^\| ([a-z_, ]+) \|", "".join(tables), re.MULTILINE)
    return {name for row in rows for name in row.split(", ")}


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_sweep_is_valid_and_named_after_its_file(path):
    assert read_sweep(path).name == path.stem
    assert not faults(path.read_text())


def faults(text: str) -> list[str]:
    """What the JSON schema finds wrong with a sweep file."""
    schema = json.loads((ROOT / "docs/sweep.schema.json").read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    return [".".join(map(str, fault.absolute_path)) for fault in found]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("rounds: 6", "rounds: 0", "prune.rounds"),
        ("score: magnitude", "score: magnitud", "prune.score"),
        ("dataset: mnist1d", "dataset: mnist2d", "trainer"),
        ("length: 15ep", "length: 15 ep", "trainer"),
        ("lr: 0.002", "rate: 0.002", "trainer"),
        ("[random-ticket]", "[random]", "controls.0"),
    ],
)
def test_the_schema_finds_what_an_editor_should_show(old, new, place):
    text = (ROOT / "sweeps/quickstart.yaml").read_text()
    assert place in faults(text.replace(old, new))


@pytest.mark.parametrize("path", ["README.md", "docs/tour.md"])
def test_sweeps_shown_in_documents_are_valid(path):
    shown = re.findall(r"```yaml\n(name:.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert shown
    for text in shown:
        parse_sweep(text)
