"""Whatever becomes of a store's files: no traceback, no hang, and one `run` mends the tables.

`MANGLED=5000` tries more stores, `MANGLED_SEED=7` others.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylottery.cli import main
from raylottery.driver import doctor
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, rounds
from tests.e2e.conftest import FREE, TINY


COUNT = int(os.environ.get("MANGLED", "480"))
SEED = int(os.environ.get("MANGLED_SEED", "0"))
GROUPS = 12
LIMIT_S = 60
"""Of one command, which takes a second at most."""

NAMES = ("tiny", "less")
TABLES = ("rounds", "curves", "layers", "lineages")
CODES = {0, 1, 2, 3}

WRONG = (
    *("{}", "[]", "null", "1e999", '"text"', '{"schema": 1}', '{"key": {"a": []}}', "[[[1]]]"),
    '{"token": "' + "0" * 32 + '", "pid": 99999999999999999999}',
    '{"run": 1, "sweep": null, "at": "yesterday"}',
)


# What can become of a file


def truncate(path: Path, some: random.Random, store: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: some.randrange(len(data) or 1)])


def flip(path: Path, some: random.Random, store: Path) -> None:
    data = bytearray(path.read_bytes() or b"x")
    for _ in range(some.choice([1, 1, 2, 8])):
        data[some.randrange(len(data))] ^= 1 << some.randrange(8)
    path.write_bytes(data)


def empty(path: Path, some: random.Random, store: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path, some: random.Random, store: Path) -> None:
    path.unlink()


def swap(path: Path, some: random.Random, store: Path) -> None:
    """Another file of the store; more likely than not one of the same kind."""
    others = [p for p in files_of(store) if p != path]
    alike = [p for p in others if p.suffix == path.suffix]
    shutil.copyfile(some.choice(alike if alike and some.random() < 0.7 else others), path)


def misshape(path: Path, some: random.Random, store: Path) -> None:
    """JSON that says something else; where it was JSON, perhaps only in one place."""
    said = None
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(path.read_bytes())
    if isinstance(said, dict) and said and some.random() < 0.7:
        said[some.choice(sorted(said))] = some.choice([None, -1, 1.5, "x", [], {}, 10**30, True])
        path.write_text(json.dumps(said))
    else:
        path.write_text(some.choice(WRONG))


def deepen(path: Path, some: random.Random, store: Path) -> None:
    depth = 100_000
    text = some.choice(
        ["[" * depth, "[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]
    )
    path.write_text(text)


def fold(path: Path, some: random.Random, store: Path) -> None:
    """A folder in its place, with something in it or nothing."""
    path.unlink()
    path.mkdir()
    if some.random() < 0.5:
        (path / "inside").write_bytes(b"x")


def scramble(path: Path, some: random.Random, store: Path) -> None:
    path.write_bytes(some.randbytes(some.choice([1, 40, 3000])))


def double(path: Path, some: random.Random, store: Path) -> None:
    """A copy of it where nothing was, beside it or where it means something else."""
    folder = some.choice(list(store.glob("rounds/*/*")))
    sweep = store / "sweeps" / some.choice(NAMES)
    place = some.choice(
        [
            path.with_name(f"{path.stem} (copy){path.suffix}"),
            path.with_name(f"{'0' * 12}{path.suffix}"),
            *(folder / name for name in ("lease.json", "aside.safetensors", "failures/1.json")),
            *(folder / name for name in ("set-aside/1.json", f"takeovers/{'0' * 32}.json")),
            *(sweep / name for name in (f"runs/{'1' * 12}.json", "jobs/raylottery-1.json")),
            sweep.with_name("third") / path.name,
        ]
    )
    with contextlib.suppress(OSError):  # its folder is a file by now
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copyfile(path, place)


def bury(path: Path, some: random.Random, store: Path) -> None:
    """A file in place of its folder."""
    folder = path.parent
    if folder in (store, store / "sweeps", store / "rounds"):
        return
    shutil.rmtree(folder)
    folder.write_bytes(some.randbytes(9))


HARMS = (truncate, flip, empty, delete, swap, misshape, deepen, fold, scramble, double, bury)


def files_of(store: Path) -> list[Path]:
    return sorted(store / place for place, about in state_of(store).items() if about is not None)


def mangle(store: Path, some: random.Random) -> str:
    """Damage some files of a store; what was done, for whoever has to look into it."""
    done = []
    for _ in range(some.choice([1, 1, 1, 2, 3, 10])):
        harm = some.choice(HARMS)
        path = drawn(store, some)
        harm(path, some, store)
        done.append(f"{harm.__name__} {path.relative_to(store)}")
    return ", ".join(done)


def drawn(store: Path, some: random.Random) -> Path:
    """A file of a store: every kind as likely as any other, however many there are of it."""
    kinds: dict[str, list[Path]] = {}
    for path in files_of(store):
        kinds.setdefault(path.name if path.suffix != ".log" else "log", []).append(path)
    for kind in [kind for kind in kinds if len(kind) > 40]:  # snapshots
        kinds.setdefault("snapshot", []).extend(kinds.pop(kind))
    return some.choice(kinds[some.choice(sorted(kinds))])


# What is done with it then


@cache
def first_lineage(sweep: Path) -> str:
    return lineages(parse_sweep(sweep.read_text()))[0].id


def commands(store: Path, sweeps: dict[str, Path], some: random.Random) -> list[str]:
    name = some.choice(NAMES)
    as_json = ["--json"] if some.random() < 0.4 else []
    out = store.parent / "out"
    if some.random() < 0.01:  # it draws for a second
        return ["report", name, "--store", str(store)]
    words = some.choice(
        [
            *(["status", name, *as_json], ["ls", *as_json], ["logs", name, *as_json]),
            ["plan", str(sweeps[name]), *as_json],
            ["compare", name, "--by", some.choice(["control", "prune.rounds"]), *as_json],
            ["compare", *NAMES, "--by", "prune.scope", *as_json],
            ["export", name, "--to", f"{out}{some.choice(['.csv', '.parquet', '.tex'])}"],
            ["analyse", name, some.choice(["overlap", "profiles"]), *as_json],
            ["doctor", *as_json],
            ["doctor", "--repair", *as_json],
            [
                "ticket",
                name,
                first_lineage(sweeps[name]),
                some.choice("01"),
                "--to",
                f"{out}.safetensors",
            ],
        ]
    )
    return [*words, "--store", str(store)]


READERS = ("status", "ls", "logs", "plan", "compare", "export")


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory) -> dict[str, Path]:
    """Two sweeps that share rounds."""
    folder = tmp_path_factory.mktemp("sweeps")
    tiny = TINY.replace("rounds: 2", "rounds: 1")
    less = tiny.replace("name: tiny", "name: less").replace("controls: [random-ticket]\n", "")
    for name, said in (("tiny", tiny), ("less", less)):
        (folder / f"{name}.yaml").write_text(said)
    return {name: folder / f"{name}.yaml" for name in NAMES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sweeps) -> Path:
    """A finished store, with what runs and jobs leave behind when they are killed."""
    store = tmp_path_factory.mktemp("whole") / "store"
    for path in sweeps.values():
        assert main(["run", str(path), "--store", str(store), "--inline", "--json"]) == 0
    folder = store / "sweeps" / "tiny"
    live = {"run": "a" * 12, "sweep": "tiny", "place": "x", "job": None, "trained": 1,
            "began": "2026-01-01T00:00:00+00:00", "at": "2026-01-01T00:00:00+00:00",
            "holder": {"token": "b" * 32, "host": "gone", "pid": 1}}  # fmt: skip
    letter = {"job": "raylottery-tiny-1", "sweep": "tiny", "address": "http://h:1", "at": "x"}
    for path, said in ((f"runs/{'a' * 12}", live), ("jobs/raylottery-tiny-1", letter)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / f"{path}.json").write_text(json.dumps(said))
    round = next(round for round in lineages(parse_sweep(sweeps["tiny"].read_text()))[0].rounds)
    Store.existing(store).fail(
        round.key,
        {"sweep": "tiny", "lineage": "0" * 12, "control": "ticket", "round": 0, "error": "E",
         "first_line": "no", "log": "x", "at": "2026-01-01T00:00:00+00:00"},
    )  # fmt: skip
    for path in sweeps.values():
        assert main(["run", str(path), "--store", str(store), "--inline", "--json"]) == 0
    assert main(["analyse", "tiny", "profiles", "--store", str(store)]) == 0
    return store


@pytest.fixture(autouse=True)
def swift(monkeypatch) -> Iterator[None]:
    """Nobody waits for a lease that stands still, data sets are another test's, and time ends."""
    monkeypatch.setitem(Store.__init__.__kwdefaults__, "patience", 0.3)
    monkeypatch.setattr(rounds, "_told", set())
    monkeypatch.setattr(doctor, "datasets", lambda: ())

    def hangs(number, frame):
        raise AssertionError(f"a command took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def told(capsys) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process: its exit code, and all that it said."""

    def run(*words: str) -> tuple[int, str]:
        signal.alarm(LIMIT_S)
        try:
            code = main(words)
        finally:
            signal.alarm(0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert code in CODES
        assert code == 0 or out or err, "an exit code without a word"
        return code, out + err

    return run


def tables_of(store: Path) -> dict[str, list[dict]]:
    """What the design promises of all tables."""
    found = {}
    for name in NAMES:
        for table in TABLES:
            rows = pq.read_table(store / "sweeps" / name / f"{table}.parquet").to_pylist()
            found[f"{name}/{table}"] = [
                {key: str(value) for key, value in row.items() if key not in FREE} for row in rows
            ]
    return found


@pytest.fixture(scope="module")
def undisturbed(whole) -> dict[str, list[dict]]:
    return tables_of(whole)


def state_of(store: Path) -> dict[str, tuple[int, int] | None]:
    """What is in a store: of files their size and time, of folders nothing."""
    found: dict[str, tuple[int, int] | None] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in os.scandir(store / folder):
            place = f"{folder}/{entry.name}" if folder else entry.name
            about = entry.stat()
            found[place] = None if entry.is_dir() else (about.st_size, about.st_mtime_ns)
            if entry.is_dir():
                folders.append(place)
    return found


def restore(store: Path, whole: Path) -> None:
    """Make a store a copy of another by as little as that takes."""
    store.mkdir(exist_ok=True)
    there, wanted = state_of(store), state_of(whole)
    for path in sorted(there, reverse=True):  # what is in a folder before the folder
        if path not in wanted or (there[path] is None) != (wanted[path] is None):
            (store / path).rmdir() if there[path] is None else (store / path).unlink()
    for path in sorted(wanted):
        if wanted[path] is None:
            (store / path).mkdir(exist_ok=True)
        elif there.get(path) != wanted[path]:
            shutil.copy2(whole / path, store / path)


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_damage_brings_a_traceback(whole, sweeps, told, tmp_path, group):
    store = tmp_path / "store"
    for number in range(group, COUNT, GROUPS):
        restore(store, whole)
        some = random.Random(f"{SEED}/{number}")
        harm = mangle(store, some)
        words = commands(store, sweeps, some)
        before = state_of(store)
        case = f"store {SEED}/{number}: {harm}; {' '.join(words)}"
        try:
            code, said = told(*words)
            if words[0] in READERS:
                assert state_of(store) == before, "who only looks changes nothing"
            if words[:2] == ["doctor", "--repair"]:
                after, found = told("doctor", "--store", str(store))
                assert after == code
                wrong = [line for line in found.splitlines() if line.startswith("WRONG")]
                # A lease that nobody can read may be somebody's, for a while.
                held = "someone is training this round" in said
                assert held or all("raylottery run" in line for line in wrong), wrong
        except BaseException as error:
            error.add_note(case)
            raise


@pytest.mark.parametrize("number", range(max(24, COUNT // 20)))
def test_one_run_brings_the_tables_of_an_undisturbed_one(
    whole, undisturbed, sweeps, told, tmp_path, number
):
    some = random.Random(f"{SEED}/run/{number}")
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    harm = mangle(store, some)
    for path in sweeps.values():
        code, said = told("run", str(path), "--store", str(store), "--inline")
        assert code == 0, (harm, said)
    assert tables_of(store) == undisturbed, harm
    before = state_of(store)
    for path in sweeps.values():
        code, said = told("run", str(path), "--store", str(store), "--inline")
        assert (code, "warning" in said) == (0, False), (harm, said)
    assert state_of(store) == before, "what is mended is not touched again"
