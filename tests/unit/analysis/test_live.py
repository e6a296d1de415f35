"""The report of a sweep that may still run: what it is made of, and when it is made anew."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace

import pytest

from raylottery.analysis.report import report
from raylottery.analysis.report.live import live_page
from raylottery.store import layout
from raylottery.store.local import LocalFiles
from tests.unit.analysis.test_report import AXES, PROVENANCE, score, write


@pytest.fixture
def files(study) -> LocalFiles:
    return LocalFiles(study.store)


def main_of(html: str) -> str:
    return html.partition("<main>")[2].partition("</main>")[0].strip()


def policy(html: str) -> str:
    [found] = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    return found


def less(values, seed, control, density):
    """The study while its last round is missing."""
    return None if density < 0.2 else score(values, seed, control, density)


def test_it_holds_what_report_writes_and_may_ask_the_server_it_came_from(study, files):
    write(study, score, axes=AXES)
    live, file = live_page("study", files, None), report(study.load())
    assert main_of(live.html) == main_of(file)
    assert (live.trouble, policy(live.html).split("; ")[-1]) == ("", "connect-src 'self'")
    assert "connect-src" not in policy(file)
    assert "fetch(" not in file
    for html in (live.html, file):
        script = html.rpartition("<script>")[2].rpartition("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy(html)


def test_a_sweep_without_a_round_says_so_and_gets_its_report_later(study, files):
    write(study, score, axes=AXES)
    rounds = study.store / layout.table("study", "rounds")
    data = rounds.read_bytes()
    rounds.unlink()
    empty = live_page("study", files, None)
    assert "No round of study is finished yet." in empty.html
    assert (live_page("study", files, empty), empty.trouble) == (empty, "")
    rounds.write_bytes(data)
    full = live_page("study", files, empty)
    assert "beats" in main_of(full.html)
    assert full.version != empty.version


def test_it_is_made_anew_only_when_a_table_changed(study, files, monkeypatch):
    write(study, less, axes=AXES)
    first = live_page("study", files, None)
    with monkeypatch.context() as patch:
        patch.setattr("raylottery.analysis.report.live.gather", None)
        assert live_page("study", files, first) == first
    write(study, score, axes=AXES)
    second = live_page("study", files, first)
    assert (second.version != first.version, second.trouble) == (True, "")
    path = study.store / layout.provenance("study")
    path.write_text(json.dumps(PROVENANCE))
    assert live_page("study", files, second).version != second.version


def test_a_run_that_begins_changes_no_version(study, files):
    write(study, score, axes=AXES)
    first = live_page("study", files, None)
    files.write(layout.live("study", "0123456789ab"), b"{}")
    second = live_page("study", files, first)
    assert second.tables != first.tables  # what is long is left out while something runs
    assert replace(second, tables=first.tables) == first


@pytest.mark.parametrize("table", ["rounds", "lineages"])
def test_a_damaged_table_is_told_and_leaves_the_page_before(study, files, table):
    write(study, score, axes=AXES)
    first = live_page("study", files, None)
    path = study.store / layout.table("study", table)
    data = path.read_bytes()
    path.write_bytes(b"junk")
    second = live_page("study", files, first)
    assert f"{table}.parquet" in second.trouble
    assert replace(second, trouble="") == first
    path.write_bytes(data)
    assert live_page("study", files, second) == first


def test_a_page_that_never_was_made_is_tried_again(study, files):
    write(study, score, axes=AXES)
    path = study.store / layout.table("study", "rounds")
    data = path.read_bytes()
    path.write_bytes(b"junk")
    first = live_page("study", files, None)
    assert "The report cannot be made." in first.html
    assert "rounds.parquet" in first.trouble
    path.write_bytes(data)
    second = live_page("study", files, first)
    assert ("beats" in main_of(second.html), second.trouble) == (True, "")
