"""What no sweep refers to goes, when asked to, and nothing else ever does."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from raylottery.cli import main
from raylottery.driver import live
from raylottery.driver.live import Live
from raylottery.driver.prune_store import find_waste, remove
from raylottery.driver.run import run
from raylottery.driver.stored import MARK, signature
from raylottery.errors import StoreError
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from raylottery.store.files import Files
from raylottery.store.holder import Holder
from raylottery.store.remote import files_on
from tests.e2e.conftest import TINY


SMALL = ("seeds=[0]", "axes={}", "controls=[]")
OTHER = (*SMALL, "name=other", "prune.fraction=0.3", "rewind.weights=13it")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A store of two sweeps that share their dense round."""
    from raylottery.cli.progress import Diary

    folder = tmp_path_factory.mktemp("two")
    for changes in (SMALL, OTHER):
        sweep = parse_sweep(TINY, overrides=changes)
        run(sweep, Store.open(folder), Diary(say=lambda line: None), inline=True)
    return folder


@pytest.fixture
def store(two, tmp_path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "store"))


@pytest.fixture
def alone(store) -> Path:
    """The store when the folder of one sweep was removed."""
    shutil.rmtree(store / "sweeps/other")
    return store


def contents(store: Path) -> dict[str, bytes]:
    return {
        p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()
    }


def prune(store: Path, *words: str) -> int:
    return main(["prune-store", "--store", str(store), *words])


def rounds_of(*changes: str):
    return lineages(parse_sweep(TINY, overrides=changes))[0].rounds


def test_where_every_sweep_is_there_nothing_goes(store, capsys):
    before = contents(store)
    assert prune(store, "--yes") == 0
    assert "nothing in" in capsys.readouterr().out
    assert contents(store) == before


def test_without_yes_it_says_what_would_go_and_changes_no_byte(alone, capsys):
    before = contents(alone)
    assert prune(alone) == 0
    out = capsys.readouterr().out
    assert "rounds that no sweep refers to" in out
    assert "nothing was removed. To remove it: raylottery prune-store --store" in out
    assert contents(alone) == before


def test_with_yes_just_that_goes_and_a_run_starts_nothing(alone, capsys, run_inline):
    before = contents(alone)
    assert prune(alone, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert prune(alone, "--yes") == 0
    after = contents(alone)
    foretold = {file for kind in told["found"] for file in kind["files"]}
    assert before.keys() - after.keys() == foretold
    assert all(after[path] == before[path] for path in after)
    assert told["bytes"] == sum(len(before[path]) for path in foretold) > 0
    counts = {kind["kind"]: kind["count"] for kind in told["found"] if kind["count"]}
    assert counts == {"rounds that no sweep refers to": 2, "snapshots that no sweep refers to": 1}
    kept = {path.split("/")[2] for path in after if path.startswith("rounds/")}
    assert kept == {round.key for round in rounds_of(*SMALL)}
    assert not [p for p in (alone / "rounds").glob("*/*") if not any(p.iterdir())], "no husks"
    assert not run_inline(alone, *SMALL).ledger.trained
    assert prune(alone, "--yes") == 0
    assert "nothing in" in capsys.readouterr().out


def put(store: Path, path: str, data: bytes = b"left", age_s: float = 0.0) -> str:
    place = store / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    at = time.time() - age_s
    os.utime(place, (at, at))
    return path


def test_what_killed_runs_left_goes(store):
    key, token = rounds_of(*SMALL)[1].key, secrets.token_hex(8)
    day = 2 * 86400.0
    gone = {
        put(store, layout.round_file(key, f"2-{token}/ticket.safetensors")),
        put(store, layout.set_aside(key, 1)),
        put(store, layout.aside(key)),
        put(store, layout.stop("tiny", "0" * 12)),
        put(store, layout.cancel("tiny", "0" * 12)),
        put(store, layout.log("tiny", "f" * 12)),
        put(store, f"sweeps/tiny/.rounds.parquet.{token}.tmp", age_s=day),
        put(store, f".{token}.tmp", age_s=day),
        put(store, f"snapshots/ab/ab{'0' * 30}.safetensors"),
    }
    stay = {
        put(store, f"sweeps/tiny/.curves.parquet.{token}.tmp"),
        put(store, "sweeps/tiny/notes.txt"),
        put(store, "sweeps/strange/thing"),
        put(store, f"rounds/{key[:2]}/{key}/mine.txt"),
        put(store, "rounds/zz/what"),
        put(store, "README"),
        put(store, layout.failure(key, 7)),
        put(store, "sweeps/tiny/report.html"),
    }
    found = find_waste(Store.existing(store))
    assert {file.path for group in found.groups for file in group.files} == gone
    assert set(found.unknown) == {
        "sweeps/tiny/notes.txt", "sweeps/strange/thing", "rounds/zz/what", "README",
        f"rounds/{key[:2]}/{key}/mine.txt",
    }  # fmt: skip
    before = contents(store)
    remove(found, Store.existing(store))
    assert before.keys() - contents(store).keys() == gone
    assert stay <= contents(store).keys()


def test_what_an_unfinished_round_has_put_aside_stays_and_its_dead_attempt_goes(store):
    key, token = rounds_of(*SMALL)[2].key, secrets.token_hex(8)
    (store / layout.record(key)).unlink()
    put(store, layout.aside(key))
    put(store, layout.set_aside(key, 1))
    dead = {
        p.relative_to(store).as_posix() for p in (store / layout.round_folder(key)).glob("1-*/*")
    }
    dead.add(put(store, layout.round_file(key, f"2-{token}/curve.parquet")))
    found = find_waste(Store.existing(store))
    assert {file.path for group in found.groups for file in group.files} == dead


def leased_elsewhere(store: Path, key: str) -> Holder:
    holder = replace(Holder.this_process(1), host="elsewhere")
    put(store, layout.lease(key), holder.to_bytes())
    return holder


def test_a_round_that_is_being_trained_stays(alone):
    """The lease of a process that lives counts on; that of one that is gone stands still."""
    trained, given_up = (round.key for round in rounds_of(*OTHER)[1:])
    leased_elsewhere(alone, given_up)
    opened = Store(Store.existing(alone).files, patience=1.5, beat=0.1)
    lease = opened._leases.acquire(trained)
    assert lease is not None
    with lease:
        found = find_waste(opened)
        assert found.in_use == [trained]
        remove(found, opened)
    assert opened.record(trained) is not None
    assert not (alone / layout.round_folder(given_up)).exists()


def test_a_round_that_somebody_begins_meanwhile_stays(alone):
    opened = Store.existing(alone)
    found = find_waste(opened)
    key = rounds_of(*OTHER)[1].key
    leased_elsewhere(alone, key)
    remove(found, opened)
    assert opened.record(key) is not None
    assert opened.record(rounds_of(*OTHER)[2].key) is None


def test_a_sweep_that_begins_meanwhile_stops_it(alone):
    opened = Store.existing(alone)
    found = find_waste(opened)
    before = contents(alone)
    put(alone, layout.sweep_file("third"), b"name: third")
    with pytest.raises(StoreError, match="changed meanwhile"):
        remove(found, opened)
    assert before.items() <= contents(alone).items()


def test_what_belongs_to_a_sweep_that_runs_stays(store, monkeypatch):
    monkeypatch.setattr(live, "SILENCE_S", 2.0)
    key = rounds_of(*SMALL)[1].key
    own = put(store, layout.set_aside(key, 1))
    log = put(store, layout.log("tiny", "f" * 12))
    opened = Store.existing(store)
    run_now = Live.this_process("tiny", "a" * 12, "this process")
    monkeypatch.setattr(live, "BEAT_S", 0.1)
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    with live.Pulse(opened.files, run_now, lambda: 0, lambda how: None):
        found = find_waste(opened)
    assert found.referred.live == {"tiny"}
    assert not found.groups
    dead = Live.this_process("tiny", "b" * 12, "a cluster")
    dead = replace(dead, holder=replace(dead.holder, host="elsewhere"))
    file = put(store, layout.live("tiny", dead.run), dead.to_bytes())
    found = find_waste(opened)
    assert {each.path for group in found.groups for each in group.files} == {own, log, file}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: (s / "sweeps/other/sweep.yaml").write_text("name: ["), "other"),
        (lambda s: (s / "sweeps/other/sweep.yaml").unlink(), "other"),
        (lambda s: (s / "sweeps/tiny/rounds.parquet").write_bytes(b"PAR1"), "rounds.parquet"),
        (lambda s: newer(s / "sweeps/other/sweep.yaml"), "most likely a newer one"),
    ],
)
def test_where_it_cannot_know_it_refuses_and_removes_nothing(store, capsys, spoil, named):
    put(store, layout.log("tiny", "f" * 12))
    spoil(store)
    before = contents(store)
    assert prune(store, "--yes") == 2
    message = capsys.readouterr().err
    assert "nothing is removed" in message
    assert named in message
    assert contents(store) == before


def newer(sweep: Path) -> None:
    rewritten(sweep, lambda text: text + "charm: 3\n")


def rewritten(sweep: Path, change: Callable[[str], str]) -> None:
    """As another raylottery would have written it."""
    text = change(sweep.read_text().rpartition(MARK)[0])
    sweep.write_text(text + signature(text))


def test_rounds_that_a_table_tells_of_stay_whatever_keys_they_would_have_now(store):
    """As where a newer raylottery gives the same sweep other keys."""
    sweep = store / "sweeps/other/sweep.yaml"
    rewritten(sweep, lambda text: text.replace("fraction: 0.3", "fraction: 0.4"))
    found = find_waste(Store.existing(store))
    assert not [group for group in found.groups if group.kind.startswith("rounds")]


def test_no_store_is_not_found(tmp_path):
    assert prune(tmp_path / "none") == 3


# Elsewhere than on a folder


def moved(store: Path, files: Files) -> None:
    for path, data in contents(store).items():
        files.write(path, data)


def test_on_s3_just_the_same_goes(alone, bucket, capsys):
    uri = bucket.format("store")
    moved(alone, files_on(*pafs.FileSystem.from_uri(uri)))
    expected = find_waste(Store.existing(alone))
    assert main(["prune-store", "--store", uri, "--json"]) == 0
    assert main(["prune-store", "--store", uri, "--yes"]) == 0
    out, _ = capsys.readouterr()
    told = json.JSONDecoder().raw_decode(out)[0]
    assert told["bytes"] == sum(group.bytes for group in expected.groups)
    assert {file for kind in told["found"] for file in kind["files"]} == {
        file.path for group in expected.groups for file in group.files
    }
    remove(expected, Store.existing(alone))
    left = {entry.path for entry in Store.existing(uri).files.walk()}
    assert left == contents(alone).keys()


@pytest.mark.parametrize("root", ["bucket/store", "bucket"])
def test_on_any_filesystem_a_walk_finds_every_file(alone, root):
    files = files_on(pafs._MockFileSystem(), root)
    moved(alone, files)
    sizes = {path: len(data) for path, data in contents(alone).items()}
    assert {entry.path: entry.bytes for entry in files.walk()} == sizes
    assert {e.path: e.bytes for e in Store.existing(alone).files.walk()} == sizes
