"""What is damaged is noticed by whoever needs it, trained again, and the tables are as before."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from raylottery.cli import main
from raylottery.driver import doctor
from raylottery.errors import LostRound
from raylottery.lineage import LOSSES
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout, rounds
from raylottery.store.local import LocalFiles
from tests.e2e.conftest import TINY


TABLES = ("rounds", "curves", "layers", "lineages")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A store with the finished sweep; `tiny.yaml` lies beside it."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "tiny.yaml").write_text(TINY)
    assert main(["run", f"{folder}/tiny.yaml", "--store", f"{folder}/store", "--inline"]) == 0
    return folder / "store"


@pytest.fixture
def store(whole, tmp_path, monkeypatch) -> Path:
    """A copy to harm."""
    monkeypatch.setattr(rounds, "_told", set())
    monkeypatch.setattr(doctor, "datasets", lambda: ())
    shutil.copy(whole.parent / "tiny.yaml", tmp_path)
    return Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.fixture
def said(capsys):
    """Runs a command: its exit code, what it printed, and what it complained of."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def again(store, said):
    """Runs the sweep again: how many rounds were trained, and what was complained of."""

    def call() -> tuple[int, str]:
        code, out, err = said(
            "run", store.parent / "tiny.yaml", "--store", store, "--inline", "--json"
        )
        assert code == 0, (out, err)
        return json.loads(out)["rounds_trained"], err

    return call


@pytest.fixture
def as_before(whole, store, table, fixed):
    def check() -> None:
        for name in TABLES:
            assert fixed(table(store, name)) == fixed(table(whole, name)), name

    return check


def keys(arm: int = 0, seed: int = 0, control: str = "ticket") -> list[str]:
    """The rounds of a lineage."""
    lines = [line for line in lineages(parse_sweep(TINY)) if line.seed == seed]
    return [round.key for round in lines[arm].rounds if round.control == control]


def file_of(store: Path, key: str, name: str) -> Path:
    record = Store.existing(store).record(key)
    assert record is not None
    return store / layout.round_file(key, record.files[name].path)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forget(store: Path, *lost: str) -> None:
    """Rounds that were never done."""
    for key in lost:
        (store / layout.record(key)).unlink()


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("name", ["record", "curve.parquet", "layers.parquet"])
@pytest.mark.parametrize("harm", [spoil, Path.unlink])
def test_one_damaged_file_costs_one_round(store, again, as_before, table, index, name, harm):
    key = keys()[index]
    is_record = name == "record"
    harm(store / layout.record(key) if is_record else file_of(store, key, name))
    trained, err = again()
    assert trained == 1
    as_before()
    was_noticed = not (is_record and harm is Path.unlink)
    assert Store.existing(store).was_set_aside(key) == was_noticed
    attempts = {row["key"]: row["attempt"] for row in table(store)}
    assert attempts.pop(key) == (2 if was_noticed else 1)
    assert set(attempts.values()) == {1}
    assert err.count("is damaged") == was_noticed, "said once"
    assert again() == (0, "")


def test_everything_that_the_tables_stand_on_may_be_lost_at_once(store, again, as_before):
    for path in store.glob("rounds/*/*/*/*.parquet"):
        spoil(path)
    assert again()[0] == 18
    as_before()
    assert again() == (0, "")


def test_a_ticket_that_is_damaged_is_found_where_it_is_needed(store, again, as_before):
    """The parent is trained again, and then the round that was to be drawn from it."""
    dense, first, last = keys()
    log = next(store.glob(f"sweeps/tiny/logs/{lineage_of(first)}.log"))
    spoil(file_of(store, first, "ticket.safetensors"))
    assert again() == (0, ""), "nobody needs it"
    forget(store, last)
    trained, err = again()
    assert trained == 2
    as_before()
    assert err.count("ticket.safetensors is damaged") == 1
    assert "ticket.safetensors is damaged" in log.read_text()
    assert Store.existing(store).was_set_aside(first)
    assert not Store.existing(store).was_set_aside(dense)


def test_losses_all_the_way_down_are_trained_again_from_the_trunk_on(store, again, as_before):
    for key in keys()[:2]:
        file_of(store, key, "ticket.safetensors").unlink()
    forget(store, keys()[2])
    assert again()[0] == 3
    as_before()


def test_lineages_that_share_a_lost_trunk_train_it_once(store, again, as_before):
    dense = keys()[0]
    assert keys(arm=1)[0] == dense
    spoil(file_of(store, dense, "ticket.safetensors"))
    forget(store, keys(arm=0)[1], keys(arm=1)[1])
    trained, err = again()
    assert trained == 3
    assert err.count("is damaged") == 1
    as_before()


@pytest.mark.parametrize("harm", [spoil, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_snapshot_is_remade(store, again, as_before, harm):
    snapshots = {path: path.read_bytes() for path in store.glob("snapshots/*/*")}
    for path in snapshots:
        harm(path)
    forget(store, keys()[2])
    trained, err = again()
    assert trained == 1
    as_before()
    assert "remade" not in err
    [mended] = [path for path, data in snapshots.items()
                if path.exists() and path.read_bytes() == data]  # fmt: skip
    assert mended == store / layout.snapshot(keys()[0], 0)


def test_a_snapshot_in_place_of_another_is_no_snapshot(store, again, as_before):
    mine, other = (store / layout.snapshot(keys(seed=seed)[0], 0) for seed in (0, 1))
    shutil.copy(other, mine)
    forget(store, keys()[2])
    again()
    as_before()


def test_a_round_that_is_lost_again_and_again_is_given_up(store, said, monkeypatch):
    first, last = keys()[1:]
    forget(store, last)
    read = LocalFiles.read

    def rotten(self, path):
        data = read(self, path)
        return data[:-1] if first in path and path.endswith("ticket.safetensors") else data

    monkeypatch.setattr(LocalFiles, "read", rotten)
    code, _, err = said("run", store.parent / "tiny.yaml", "--store", store, "--inline",
                        "--set", "retries=0")  # fmt: skip
    assert code == 1
    assert "Traceback" not in err
    assert len(list((store / layout.set_asides(first)).iterdir())) == LOSSES


def test_a_table_whose_rounds_are_lost_again_and_again_is_given_up(store, monkeypatch, run_inline):
    read = LocalFiles.read

    def rotten(self, path):
        data = read(self, path)
        return data[:-1] if keys()[1] in path and path.endswith("curve.parquet") else data

    monkeypatch.setattr(LocalFiles, "read", rotten)
    with pytest.raises(LostRound, match=r"curve.parquet is damaged"):
        run_inline(store)


def test_only_failed_trains_nothing_that_is_lost(store, said):
    file_of(store, keys()[2], "curve.parquet").unlink()
    words = ("run", store.parent / "tiny.yaml", "--store", store, "--inline", "--only", "failed")
    code, out, _ = said(*words)
    assert (code, "1 rounds are left: run it without --only" in out) == (0, True)


def test_readers_count_what_is_damaged_as_not_done_and_say_so(store, said):
    spoil(store / layout.record(keys()[2]))
    for words in (["status", "tiny"], ["ls"], ["plan", store.parent / "tiny.yaml"]):
        rounds._told.clear()
        code, out, err = said(*words, "--store", store, "--json")
        found = json.loads(out)
        counted = found[0] if isinstance(found, list) else found
        left = counted.get("rounds_to_do", counted["rounds"] - counted.get("rounds_done", 0))
        assert (code, left) == (0, 1)
        assert err.count("\n") == 1
        assert err.startswith("raylottery: warning: ")
        assert "record.json is damaged: " in err
    assert not Store.existing(store).was_set_aside(keys()[2])


def test_much_damage_is_said_in_a_few_lines_and_a_count(store, said):
    records = list(store.rglob("record.json"))
    for path in records:
        spoil(path)
    lines = said("status", "tiny", "--store", store)[2].splitlines()
    assert len(lines) == 6
    assert lines[-1] == f"raylottery: warning: and {len(records) - 5} more"


# Doctor


def test_doctor_says_what_is_wrong_and_repairs_what_can_be(store, said, again, as_before):
    sound = said("doctor", "--store", store)
    assert sound[0] == 0
    assert "every round's record and files are sound, and every table" in sound[1]
    spoil(store / layout.record(keys()[1]))
    spoil(file_of(store, keys()[2], "ticket.safetensors"))
    spoil(store / layout.snapshot(keys()[0], 0))
    for file in ("rounds.parquet", "lineages.parquet", "provenance.json"):
        (store / "sweeps" / "tiny" / file).write_bytes(b"{")
    runs = store / "sweeps" / "tiny" / "runs"
    runs.mkdir(exist_ok=True)
    (runs / f"{'0' * 12}.json").write_bytes(b"{")
    code, out, _ = said("doctor", "--store", store)
    assert (code, out.count("WRONG")) == (1, 7)
    assert not (store / layout.set_asides(keys()[1])).exists()

    code, out, _ = said("doctor", "--store", store, "--repair")
    assert code == 1, "two rounds are left to train"
    [wrong] = [line for line in out.splitlines() if line.startswith("WRONG")]
    sweep = store / "sweeps" / "tiny" / "sweep.yaml"
    assert wrong == (
        f"WRONG  sweep tiny: 2 rounds were set aside and are to be trained again: "
        f"raylottery run {sweep} --store {store}"
    )
    assert said("doctor", "--store", store)[1].count("WRONG") == 1
    assert said("compare", "tiny", "--by", "prune.scope", "--store", store)[0] == 0

    code, *_ = said(*wrong.partition("raylottery ")[2].split(), "--inline")
    assert code == 0
    as_before()
    assert said("doctor", "--store", store)[0] == 0
    assert said("doctor", "--store", store, "--repair")[0] == 0


def test_repairing_what_is_sound_changes_nothing(store, said, snapshot_of):
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert said("doctor", "--store", store, "--repair")[0] == 0
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_repair_wants_a_store(said):
    code, out, err = said("doctor", "--repair")
    assert (code, out) == (2, "")
    assert "--repair mends a store: say which, as --store results" in err


# The sweep's own files


@pytest.mark.parametrize("which", ["rounds", "lineages"])
@pytest.mark.parametrize("harm", [spoil, lambda path: path.write_bytes(path.read_bytes()[:-50])])
def test_a_damaged_table_is_named_with_its_mend(store, said, again, as_before, which, harm):
    path = store / "sweeps" / "tiny" / f"{which}.parquet"
    harm(path)
    for words in (
        ["compare", "tiny", "--by", "prune.scope"],
        ["report", "tiny"],
        ["export", "tiny", "--to", store.parent / "x.csv"],
    ):
        code, out, err = said(*words, "--store", store)
        assert (code, out) == (1, "")
        assert err.startswith(f"raylottery: {path} is damaged: it cannot be read (")
        assert f"raylottery doctor --repair --store {store}" in err
        assert err.count("\n") == 1
    assert again()[0] == 0
    as_before()


@pytest.mark.parametrize("harm", [spoil, Path.unlink, lambda path: path.write_bytes(b"\xff")])
def test_a_sweep_that_cannot_be_read_is_told_of_beside_the_others(store, said, again, harm):
    text = TINY.replace("name: tiny", "name: other").replace("rounds: 2", "rounds: 1")
    (store.parent / "other.yaml").write_text(text)
    assert said("run", store.parent / "other.yaml", "--store", store, "--inline")[0] == 0
    path = store / "sweeps" / "tiny" / "sweep.yaml"
    whole = path.read_bytes()
    harm(path)
    code, out, _ = said("ls", "--store", store)
    assert code == 1
    assert "other" in out.splitlines()[1]
    assert f"tiny cannot be read: {path} is damaged: " in out
    code, out, _ = said("ls", "--store", store, "--json")
    assert [row["sweep"] for row in json.loads(out)] == ["other", "tiny"]
    for words in (["status", "tiny"], ["logs", "tiny"]):
        code, out, err = said(*words, "--store", store)
        assert (code, out) == (1, "")
        assert f"{path} is damaged: " in err
        assert "raylottery run SWEEP.yaml --store" in err
    trained, err = again()
    assert trained == 0
    assert ("sweep.yaml is damaged" in err) == (harm is not Path.unlink)
    assert path.read_bytes() == whole


def test_a_damaged_provenance_is_written_anew_and_no_reader_minds(store, said, again):
    path = store / "sweeps" / "tiny" / "provenance.json"
    for data in (b"", b"[]", b"\xff", b"[" * 5000):
        path.write_bytes(data)
        assert said("report", "tiny", "--store", store)[0] == 0
        page = (store / "sweeps" / "tiny" / "report.html").read_text()
        assert "provenance.json is damaged" in page
        rounds._told.clear()
        trained, err = again()
        assert (trained, "provenance.json is damaged" in err) == (0, True)
        assert json.loads(path.read_bytes())["platform"]


# What a newer raylottery wrote, and what is no data at all


def sealed_as_newer(store: Path) -> Path:
    """A sweep as a raylottery stores it that has one field more."""
    from raylottery.driver.stored import signature

    path = store / "sweeps" / "tiny" / "sweep.yaml"
    text = path.read_text().rpartition("# checksum")[0] + "cleverness: high\n"
    path.write_text(text + signature(text))
    return path


def newer_record(store: Path) -> Path:
    path = store / layout.record(keys()[2])
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2', 1))
    return path


def newer_run(store: Path) -> Path:
    path = store / "sweeps" / "tiny" / "runs" / f"{'0' * 12}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"schema": 2}')
    return path


@pytest.mark.parametrize("newer", [newer_record, sealed_as_newer, newer_run])
def test_what_a_newer_raylottery_wrote_is_refused_by_name_and_left_alone(store, said, newer):
    path = newer(store)
    before = path.read_bytes()
    file = store.parent / "tiny.yaml"
    commands = [["status", "tiny"], ["doctor", "--repair"], ["ls"]]
    if newer is not newer_run:
        commands += [["run", file, "--inline"], ["plan", file], ["logs", "tiny"]]
        commands += [["ticket", "tiny", lineage_of(keys()[1]), "2", "--to", "x"]]
    for words in commands:
        code, out, err = said(*words, "--store", store)
        assert code == (1 if words[0] in ("doctor", "ls") else 2)
        told = " ".join((out + err).split())
        assert f"{path} was written by a" in told
        assert "newer" in told
        assert "pip install -U raylottery" in told
    assert path.read_bytes() == before
    assert not Store.existing(store).was_set_aside(keys()[2])


def lineage_of(key: str) -> str:
    found = [line for line in lineages(parse_sweep(TINY)) if key in [r.key for r in line.rounds]]
    return found[0].id


class Bomb:
    """Runs when a pickle of it is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("what", ["ticket", "snapshot"])
def test_a_pickle_in_a_store_is_never_loaded(store, said, again, as_before, monkeypatch, what):
    monkeypatch.chdir(store.parent)
    dense, first, last = keys()
    snapshot = store / layout.snapshot(dense, 0)
    path = snapshot if what == "snapshot" else file_of(store, first, "ticket.safetensors")
    path.write_bytes(pickle.dumps(Bomb()))
    forget(store, last)
    (store / layout.aside(last)).write_bytes(pickle.dumps(Bomb()))
    if what == "ticket":
        words = ("ticket", "tiny", lineage_of(first), "1", "--to", "x", "--store", store)
        code, _, err = said(*words)
        assert (code, "ticket.safetensors is damaged" in err) == (1, True)
    again()
    as_before()
    assert not Path("exploded").exists()
