"""Rounds are committed whole, the first writer's record wins, and damage is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from raylottery.errors import LostRound, NewerStore
from raylottery.store import Store, layout
from raylottery.store.lease import Lease
from raylottery.store.local import LocalFiles
from raylottery.store.sealed import open_seal, seal
from raylottery.store.soundness import check


NOTE = {
    "sweep": "s",
    "lineage": "0123456789ab",
    "control": "ticket",
    "round": 2,
    "error": "ValueError",
    "first_line": "no",
    "log": "sweeps/s/logs/0123456789ab.log",
    "at": "2026-01-02T03:04:05+00:00",
}


def all_files(files, folder: str = "") -> set[str]:
    found = set()
    for name in files.list(folder):
        path = f"{folder}/{name}" if folder else name
        below = all_files(files, path) if "." not in name else set()
        found |= below or {path}
    return found


def test_a_committed_round_is_read_back_whole(store, make_round, commit):
    parent = make_round(seed=3)
    round = make_round(seed=3, parent=parent)
    assert store.record(round.key) is None
    written = commit(store, round, score=float("nan"), digests={"7": "ab"})
    record = store.record(round.key)
    assert record.to_bytes() == written.to_bytes()
    assert (record.key, record.parent, record.spec) == (round.key, parent.key, round.spec)
    assert (record.trained_by, record.attempt, record.seconds) == ("s", 1, 1.5)
    assert record.started_at.isoformat() == "2026-01-02T03:04:05.678901+00:00"
    assert record.result["kept"] == 80
    assert record.result["score"] != record.result["score"]
    assert record.result["digests"] == {"7": "ab"}
    assert set(record.files) == {"curve.parquet", "layers.parquet"}
    for name in record.files:
        assert store.read_file(record, name)[:4] == b"PAR1"


def test_a_record_is_json_as_the_contract_says(local, make_round, commit):
    store, round = Store(local), make_round()
    commit(store, round)
    said = json.loads(local.read(layout.record(round.key)))
    assert list(said) == [
        *("schema", "key", "parent", "spec", "trained_by", "attempt", "files", "result"),
        *("seconds", "started_at", "finished_at", "host", "device", "version", "checksum"),
    ]
    assert said["schema"] == 1
    assert said["started_at"] == "2026-01-02T03:04:05.678901Z"
    file = said["files"]["curve.parquet"]
    data = local.read(f"{layout.round_folder(round.key)}/{file['path']}")
    assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_record_is_written_last(store, make_round, commit, monkeypatch):
    order, files = [], store.files
    write, create = files.write, files.create_exclusive
    monkeypatch.setattr(files, "write", lambda path, data: (order.append(path), write(path, data)))
    monkeypatch.setattr(
        files, "create_exclusive", lambda path, data: order.append(path) or create(path, data)
    )
    commit(store, make_round())
    names = [path.rpartition("/")[2] for path in order]
    assert names.index("record.json") == 2
    assert sorted(names[:2]) == ["curve.parquet", "layers.parquet"]


def test_the_first_record_wins(store, make_round, commit):
    round = make_round()
    first = commit(store, round, sweep="one", score=0.5)
    before = all_files(store.files)
    second = commit(store, round, sweep="two", score=0.6, attempt=2)
    assert second.to_bytes() == first.to_bytes()
    assert all_files(store.files) == before
    assert second.result["score"] == 0.5


def test_a_writer_overtaken_at_the_last_moment_removes_only_its_own(
    store, make_round, commit, monkeypatch
):
    round = make_round()
    rival = Store(store.files)
    create = store.files.create_exclusive
    first = []

    def overtaken(path, data):
        monkeypatch.undo()
        first.append(commit(rival, round, sweep="rival"))
        return create(path, data)

    monkeypatch.setattr(store.files, "create_exclusive", overtaken)
    record = commit(store, round, sweep="late")
    assert record.trained_by == "rival"
    assert record.to_bytes() == first[0].to_bytes()
    assert store.read_file(record, "curve.parquet")[:4] == b"PAR1"
    folder = layout.round_folder(round.key)
    kept = {f"{folder}/{file.path}" for file in record.files.values()} | {f"{folder}/record.json"}
    assert {path for path in all_files(store.files) if path.count(".")} == kept


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"score": "high"}, "score"),
        ({"kept": 1.5}, "kept"),
        ({"kept": True}, "kept"),
        ({"loss": None}, "loss"),
    ],
)
def test_results_of_a_wrong_type_are_refused_and_nothing_is_written(
    store, make_round, commit, change, problem
):
    with pytest.raises(ValidationError, match=f"result.{problem}"):
        commit(store, make_round(), **change)
    assert all_files(store.files) == set()


def test_a_round_whose_spec_is_not_its_key_is_not_committed(store, make_round, commit):
    from dataclasses import replace

    with pytest.raises(ValueError, match="does not have that key"):
        commit(store, replace(make_round(), spec={"schema": 1, "seed": 9}))
    assert all_files(store.files) == set()


def edit(files, path: str, old: bytes, new: bytes) -> None:
    data = files.read(path)
    assert old in data
    files.write(path, data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"lr": 0.1', b'"lr": 0.2', "does not have the key"),
        (b'"schema": 1', b'"schema": 0', "schema"),
        (b'"score": 0.9', b'"score": "x"', "result.score"),
        (b'"score": 0.9,', b"", "result.score: Field required"),
        (b"{", b"", "Invalid JSON"),
        (b'"path": "1-', b'"path": "../../1-', "plain relative path"),
        (b'"score": 0.9', b'"score": 0.8', "does not have the checksum that it ends with"),
        (b'"host": "', b'"host": "x', "does not have the checksum that it ends with"),
        (b'"checksum": "', b'"checksum": "0', "does not have the checksum that it ends with"),
        (b'"lr": 0.1', b'"lr": NaN', "no stable form"),
        (b'"lr": 0.1', b'"lr": ' + b"[" * 3000, "recursion limit"),
    ],
)
def test_a_damaged_record_is_named_and_counts_as_none(
    store, make_round, commit, caplog, old, new, problem
):
    round, other = make_round(seed=0), make_round(seed=1)
    commit(store, round)
    commit(store, other)
    path = layout.record(round.key)
    edit(store.files, path, old, new)
    with pytest.raises(LostRound, match=problem) as caught:
        store.record(round.key)
    assert caught.value.key == round.key
    assert str(caught.value).startswith(f"{store.files.where(path)} is damaged: ")
    assert "doctor --repair" in str(caught.value)
    for _ in range(3):
        assert store.done([round.key, other.key]) == {other.key}
        assert list(store.records([round.key, other.key])) == [other.key]
    assert [record.getMessage() for record in caplog.records] == [str(caught.value)]
    assert store.files.exists(path), "who only looks renames nothing"


def test_a_record_of_the_first_stores_is_read(store, make_round, commit):
    """They were written without a checksum of their own."""
    round = make_round()
    commit(store, round)
    path = layout.record(round.key)
    data = store.files.read(path)
    store.files.write(path, data[: data.rindex(b',\n "checksum"')] + b"\n}\n")
    assert store.record(round.key).to_bytes() == data


def test_a_record_of_a_newer_raylottery_is_refused_and_never_touched(store, make_round, commit):
    round = make_round()
    commit(store, round)
    path = layout.record(round.key)
    edit(store.files, path, b'"schema": 1', b'"schema": 2, "more": []')
    before = store.files.read(path)
    for act in (
        store.record,
        lambda key: store.done([key]),
        store.lease,
        store.set_aside,
        store.look,
        lambda key: commit(store, round),
    ):
        with pytest.raises(NewerStore, match=r"record.json was written by a newer raylottery \("):
            act(round.key)
    [problem] = check(store)
    assert (problem.path, problem.mend) == (path, "upgrade")
    assert store.files.read(path) == before
    assert not store.was_set_aside(round.key)
    assert not store.files.exists(layout.lease(round.key))


@pytest.mark.parametrize("harm", ["record", "file", "gone", "folder"])
def test_a_round_that_is_lost_is_set_aside_and_committed_anew(
    local, make_round, commit, caplog, harm
):
    store, round = Store(local), make_round()
    first = commit(store, round)
    path = layout.round_file(round.key, first.files["curve.parquet"].path)
    if harm == "record":
        edit(local, layout.record(round.key), b'"score": 0.9', b'"score": 0.8')
    elif harm == "file":
        local.write(path, local.read(path)[:-1])
    else:
        local.delete(path)
        if harm == "folder":
            Path(local.where(path)).mkdir()
    [problem] = check(store)
    assert (problem.key, problem.mend) == (round.key, "set aside")
    assert store.set_aside(round.key)
    assert store.done([round.key]) == set()
    assert store.was_set_aside(round.key)
    assert local.exists(layout.set_aside(round.key, 1))
    assert len(caplog.records) == 1
    with held(store, round.key) as lease:
        assert lease.attempt == 2
        again = commit(store, round, attempt=lease.attempt)
    assert store.read_file(again, "curve.parquet")[:4] == b"PAR1"
    assert store.set_aside(round.key), "a sound round is left alone"
    assert store.done([round.key]) == {round.key}
    assert list(check(store)) == []


def test_a_round_is_set_aside_under_its_lease(store, make_round, commit):
    round = make_round()
    record = commit(store, round)
    store.files.delete(layout.round_file(round.key, record.files["curve.parquet"].path))
    with held(Store(store.files), round.key):
        assert not store.set_aside(round.key)
    assert store.record(round.key) is not None


def test_whoever_may_train_a_round_finds_its_damaged_record_set_aside(store, make_round, commit):
    round = make_round()
    for attempt in (1, 2, 3):
        commit(store, round, attempt=attempt)
        store.files.write(layout.record(round.key), b"{")
        assert store.look(round.key) == "free"
        with held(store, round.key) as lease:
            assert lease.attempt == attempt + 1
            assert not store.files.exists(layout.record(round.key))
    assert len(store.files.list(layout.set_asides(round.key))) == 3


def test_a_record_that_is_damaged_at_the_last_moment_is_committed_anew(store, make_round, commit):
    round = make_round()
    commit(store, round)
    store.files.write(layout.record(round.key), b"")
    assert commit(store, round, attempt=2, sweep="late").trained_by == "late"
    assert store.record(round.key).trained_by == "late"


def held(store: Store, key: str) -> Lease:
    """The lease of a round that is free to take."""
    lease = store.lease(key)
    assert lease is not None
    return lease


def test_a_record_under_another_key_is_refused(store, make_round, commit):
    here, there = make_round(seed=0), make_round(seed=1)
    commit(store, here)
    store.files.write(layout.record(there.key), store.files.read(layout.record(here.key)))
    with pytest.raises(LostRound, match="does not have the key it lies under"):
        store.record(there.key)


def test_a_damaged_or_missing_file_is_refused(store, make_round, commit):
    record = commit(store, make_round())
    path = layout.round_file(record.key, record.files["curve.parquet"].path)
    data = store.files.read(path)
    for broken in (data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
        store.files.write(path, broken)
        with pytest.raises(LostRound, match=r"curve.parquet is damaged: its \d+ bytes"):
            store.read_file(record, "curve.parquet")
    store.files.delete(path)
    with pytest.raises(LostRound, match=r"curve.parquet is damaged: it is missing"):
        store.read_file(record, "curve.parquet")
    with pytest.raises(LostRound, match=r"it names no ticket.safetensors"):
        store.read_file(record, "ticket.safetensors")


def test_only_done_rounds_are_found(store, make_round, commit):
    rounds = [make_round(seed) for seed in range(5)]
    for round in rounds[1:4]:
        commit(store, round)
    keys = [round.key for round in rounds]
    assert store.done(keys) == set(keys[1:4])
    assert list(store.records(keys)) == keys[1:4]
    assert store.done([]) == set()


def test_sweeps_are_the_folders_with_a_sweep_or_its_tables_in_them(store):
    assert store.sweeps() == []
    store.files.write(layout.sweep_file("b"), b"name: b\n")
    store.files.write(layout.sweep_file("a"), b"name: a\n")
    store.files.write(layout.table("half", "rounds"), b"")
    store.files.write("sweeps/begun/tensorboard/events", b"")
    store.files.write("sweeps/a (copy)/sweep.yaml", b"")
    assert store.sweeps() == ["a", "b", "half"]


# One safetensors tensor `w` of two bytes, written by hand.
HEADER = b'{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(56)
PLAIN = len(HEADER).to_bytes(8, "little") + HEADER + b"\x01\x02"


def ruins(data: bytes) -> list[bytes]:
    """What can become of a sealed file."""
    deep = b"[" * 5000
    return [
        *(data[:-1] + b"\x03", data[:-1], b"", data.replace(b'"w"', b'"v"'), data + b"x"),
        *(
            b"\x00" * 100,
            pickle.dumps({"weights": [1, 2]}),
            len(deep).to_bytes(8, "little") + deep,
        ),
        data.replace(b'"__metadata__":{', b'"__metadata__":1,"":{'),
    ]


def test_snapshots_are_kept_once_and_checked(store, caplog):
    trunk = "0123456789abcdef" * 2
    data = seal(PLAIN, {"step": "35"})
    assert store.snapshot(trunk, 35) is None
    store.put_snapshot(trunk, 35, data)
    store.put_snapshot(trunk, 35, seal(PLAIN[:-1] + b"\x03", {}))
    kept = store.snapshot(trunk, 35)
    assert kept == seal(data, {"step": "35", "place": layout.snapshot(trunk, 35)})
    assert store.snapshot(trunk, 36) is None
    store.put_snapshot(trunk, 36, data)
    path = layout.snapshot(trunk, 35)
    copied = store.files.read(layout.snapshot(trunk, 36))
    for broken in (*ruins(kept), copied):
        store.files.write(path, broken)
        assert store.snapshot(trunk, 35) is None
        assert "safetensors is damaged: " in caplog.text
        [problem] = check(store)
        assert (problem.path, problem.mend) == (path, "remove")
        store.put_snapshot(trunk, 35, data)
        assert store.snapshot(trunk, 35) == kept
    with pytest.raises(ValueError, match="checksum"):
        store.put_snapshot(trunk, 1, PLAIN)


def test_what_is_put_aside_last_is_found_whole_and_makes_no_round_done(store, make_round):
    key, other = make_round(seed=0).key, make_round(seed=1).key
    assert store.aside(key) is None
    for data in (seal(PLAIN, {"step": "5"}), seal(PLAIN[:-1] + b"\x03", {"step": "10"})):
        store.put_aside(key, data)
        assert open_seal(store.aside(key)) == {**open_seal(data), "place": layout.aside(key)}
    assert store.aside(other) is None
    assert store.done([key]) == set()
    assert list(check(store)) == []
    with pytest.raises(ValueError, match="checksum"):
        store.put_aside(other, PLAIN)
    assert all_files(store.files) == {layout.aside(key)}


def test_what_is_put_aside_is_gone_with_the_commit_whoever_was_first(store, make_round, commit):
    round, other = make_round(seed=0), make_round(seed=1)
    for _ in range(2):
        store.put_aside(round.key, seal(PLAIN, {}))
        store.put_aside(other.key, seal(PLAIN, {}))
        commit(store, round)
        assert store.aside(round.key) is None
        assert layout.aside(round.key) not in all_files(store.files)
        assert store.aside(other.key) is not None


def test_what_is_put_aside_lies_there_until_the_record_does(
    store, make_round, commit, monkeypatch
):
    """A commit that is cut off has lost nothing."""
    round = make_round()
    store.put_aside(round.key, seal(PLAIN, {}))

    def cut_off(path, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.files, "create_exclusive", cut_off)
    with pytest.raises(KeyboardInterrupt):
        commit(store, round)
    assert store.aside(round.key) is not None


def test_what_was_put_aside_and_is_damaged_is_as_good_as_none_and_said(store, make_round, caplog):
    key = make_round().key
    store.put_aside(key, seal(PLAIN, {"step": "5"}))
    data = store.aside(key)
    path = layout.aside(key)
    store.put_aside(make_round(seed=1).key, seal(PLAIN, {}))
    copied = store.aside(make_round(seed=1).key)
    for broken in (*ruins(data), copied):
        store.files.write(path, broken)
        caplog.clear()
        assert store.aside(key) is None
        [said] = [record.getMessage() for record in caplog.records]
        assert said.startswith(f"{store.files.where(path)} is damaged: ")
        assert said.endswith(". The round begins anew")
        [problem] = check(store)
        assert (problem.path, problem.mend) == (path, "remove")
        assert str(problem).startswith(f"{store.files.where(path)} is damaged: ")
    store.put_aside(key, data)
    assert store.aside(key) == data
    assert list(check(store)) == []


def test_failures_are_kept_in_order(store, make_round):
    key = make_round().key
    assert store.failures(key) == []
    for number in range(12):
        note = NOTE | {"first_line": f"no {number}", "at": f"2026-01-02T03:04:{number:02}+00:00"}
        assert store.fail(key, note) == note | {"attempt": number + 1}
    notes = store.failures(key)
    assert [note["first_line"] for note in notes] == [f"no {n}" for n in range(12)]
    assert [note["attempt"] for note in notes] == list(range(1, 13))
    assert store.record(key) is None


def test_a_failure_about_a_file_with_an_odd_name_is_kept(store, make_round):
    key = make_round().key
    store.fail(key, NOTE | {"first_line": b"no file \xff".decode(errors="surrogateescape")})
    assert store.failures(key)[0]["first_line"] == "no file \\udcff"


@pytest.mark.parametrize(
    "change", [{"round": "2"}, {"at": "yesterday"}, {"at": "2026-01-02T03:04:05"}, {"more": 1}]
)
def test_a_failure_note_that_no_table_could_hold_is_refused(store, make_round, change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        store.fail(make_round().key, NOTE | change)
    assert all_files(store.files) == set()


def test_a_damaged_failure_note_is_named_and_left_out(store, make_round, caplog):
    key = make_round().key
    store.fail(key, NOTE)
    store.fail(key, NOTE | {"first_line": "sound"})
    store.files.write(layout.failure(key, 1), b"{}")
    assert [note["first_line"] for note in store.failures(key)] == ["sound"]
    assert "failures/1.json is damaged: sweep: Field required" in caplog.text


def test_check_finds_each_damage_and_what_becomes_of_it(store, make_round, commit):
    rounds = [make_round(seed) for seed in range(5)]
    records = [commit(store, round) for round in rounds]
    trunk = rounds[0].key
    store.put_snapshot(trunk, 0, seal(PLAIN, {}))
    store.put_snapshot(trunk, 5, seal(PLAIN, {}))
    store.files.write(f"{layout.round_folder('e' * 32)}/lease.json", b"{}")
    assert list(check(store)) == []

    edit(store.files, layout.record(rounds[1].key), b'"lr": 0.1', b'"lr": 0.3')
    store.files.delete(layout.round_file(rounds[2].key, records[2].files["curve.parquet"].path))
    store.files.write(
        layout.round_file(rounds[3].key, records[3].files["layers.parquet"].path), b"x"
    )
    store.files.write(layout.snapshot(trunk, 5), seal(PLAIN, {})[:-1])
    store.fail(rounds[4].key, NOTE)
    store.files.write(layout.failure(rounds[4].key, 1), b"{")

    found = list(check(store))
    problems = {problem.path: str(problem) for problem in found}
    assert set(problems) == {
        *(layout.record(round.key) for round in rounds[1:4]),
        layout.failure(rounds[4].key, 1),
        layout.snapshot(trunk, 5),
    }
    assert "does not have the key" in problems[layout.record(rounds[1].key)]
    assert "curve.parquet is damaged: it is missing" in problems[layout.record(rounds[2].key)]
    assert "layers.parquet is damaged: its 1 bytes" in problems[layout.record(rounds[3].key)]
    for problem in found:
        if problem.mend == "set aside":
            store.set_aside(problem.key)
        else:
            store.files.delete(problem.path)
    assert list(check(store)) == []
    assert store.done([round.key for round in rounds]) == {rounds[0].key, rounds[4].key}
    commit(store, rounds[1])
    assert list(check(store)) == []


WRITER = """
import sys, types
from datetime import datetime, UTC
from raylottery.spec.fingerprint import fingerprint
from raylottery.store import Store
result = {result}
store = Store.open(sys.argv[1])
first = int(sys.argv[2])
for seed in range(first, first + 100_000):
    spec = {{"schema": 1, "seed": seed}}
    round = types.SimpleNamespace(key=fingerprint(spec), parent=None, spec=spec)
    print(round.key, flush=True)
    now = datetime.now(UTC)
    store.commit(round, files={{"a.bin": bytes([seed % 251]) * 100_000, "b.bin": b"b" * 50_000}},
        result=result, sweep="s", attempt=1, seconds=0.1, started_at=now, finished_at=now,
        device="cpu")
"""


def test_a_writer_killed_at_any_moment_leaves_whole_rounds_or_none(tmp_path, make_round, commit):
    files = LocalFiles(tmp_path / "store")
    result = commit(Store(LocalFiles(tmp_path / "other")), make_round()).result
    done = tried = 0
    for turn in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(result=result), files.root, str(turn * 100_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        keys = [writer.stdout.readline().strip() for _ in range(4)]
        time.sleep(0.0007 * turn)
        writer.send_signal(signal.SIGKILL)
        keys += writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        store = Store.existing(files.root)
        keys = [key for key in keys if layout.is_key(key)]
        found = store.records(keys)
        assert len(keys) - len(found) <= 1  # only the one under way
        for record in found.values():
            assert {name: len(store.read_file(record, name)) for name in record.files} == {
                "a.bin": 100_000,
                "b.bin": 50_000,
            }
        done += len(found)
        tried += len(keys)
        assert list(check(store)) == []
    assert done >= 18
