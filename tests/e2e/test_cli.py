"""The real command in a subprocess: what it prints, writes and answers, and how it refuses.

Figures are checked against the sweep's Parquet, read here by plain pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq
import pytest

from raylottery.cli import main
from tests.conftest import WEIRD
from tests.e2e.conftest import TINY


SLOW = """
name: slow
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 40ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 4}
seeds: [0]
"""
"""Five rounds of about half a second, so that a signal comes in the middle of one."""

PLAIN_TORCH = """
import sys, torch
from mnist1d.data import get_dataset_args, make_dataset
from safetensors.torch import load_file
ticket, data = load_file(sys.argv[1]), make_dataset(get_dataset_args())
net = torch.nn.Sequential(torch.nn.Linear(40, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
net.load_state_dict({n: ticket["trained." + n] for n in net.state_dict()})
with torch.no_grad():
    found = net(torch.tensor(data["x_test"], dtype=torch.float32)).argmax(dim=1)
print((found == torch.tensor(data["y_test"])).sum().item() / len(found))
"""


@pytest.fixture
def here(capsys, monkeypatch, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in this process, in no time; whatever the command does not foresee is raised."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object):
        capsys.readouterr()
        words = [str(argument) for argument in arguments]
        code = main(words)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def finished(raylottery, tmp_path_factory) -> tuple[Path, Path, str]:
    """A sweep file and its finished store, both at odd paths, and what the run printed."""
    folder = tmp_path_factory.mktemp("cli") / WEIRD
    folder.mkdir()
    file, store = folder / "my sweep.yaml", folder / "re'sults %20"
    file.write_text(TINY)
    done = raylottery("run", file, "--store", store, "--inline")
    assert (done.returncode, done.stderr) == (0, "")
    return file, store, done.stdout


@pytest.fixture(scope="module")
def rows(finished) -> list[dict]:
    return read_rows(finished[1])


def read_rows(store: Path, sweep: str = "tiny", table: str = "rounds") -> list[dict]:
    return pq.read_table(store / "sweeps" / sweep / f"{table}.parquet").to_pylist()


def records(store: Path) -> set[Path]:
    return set(store.glob("rounds/*/*/record.json"))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def answer(done: subprocess.CompletedProcess[str], code: int = 0):
    """What `--json` printed; nothing else may be on stdout, nothing at all on stderr."""
    assert (done.returncode, done.stderr) == (code, "")
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """One message on stderr that says the parts, no result, no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("raylottery: ")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, "one message"
    for part in parts:
        assert part in done.stderr


def score_at(rows: list[dict], density: float) -> float:
    """The score of one curve at a density, straight between rounds over the log of density."""
    curve = sorted(((row["density"], row["score"]) for row in rows), reverse=True)
    for (above, first), (below, second) in pairwise(curve):
        if above >= density >= below:
            share = math.log(above / density) / math.log(above / below)
            return first + share * (second - first)
    raise AssertionError(f"no rounds around {density}")


# What a finished sweep answers


def test_run_trains_every_round_and_prints_the_mean_scores(finished, rows):
    _, store, printed = finished
    assert len(rows) == 4 * (1 + 2 * 2)
    assert len(records(store)) == len({row["key"] for row in rows}) == 18
    assert "tiny: 18 rounds of 4 lineages to train (0 done), 1 at a time" in printed
    assert "scope=layerwise, seed 1: done. 18/18 rounds" in printed
    assert "trained 18 rounds in" in printed
    dense = mean(row["score"] for row in rows if row["round"] == 0)
    [line] = [li for li in printed.splitlines() if li.split()[:2] == ["scope=global", "ticket"]]
    assert line.split()[2:4] == ["2", f"{100 * dense:.1f}"]


def test_run_again_trains_nothing_and_changes_no_byte(finished, raylottery):
    file, store, printed = finished
    before = contents(store)
    again = raylottery("run", file, "--inline", cwd=store.parent, RAYLOTTERY_STORE=store.name)
    assert (again.returncode, again.stderr) == (0, "")
    first, _, table = again.stdout.partition("\n")
    assert first == f"nothing to train: all 18 rounds of tiny are in {store.name}"
    assert printed.endswith(table)
    figures = answer(raylottery("run", file, "--store", store, "--inline", "--json"))
    assert (figures["rounds"], figures["rounds_trained"], figures["rounds_to_do"]) == (18, 0, 0)
    assert figures["failed"] == {}
    assert not figures["interrupted"]
    assert contents(store) == before


def test_plan_counts_the_work_and_makes_nothing(finished, raylottery, tmp_path):
    file, store, _ = finished
    fresh = answer(raylottery("plan", file, "--store", tmp_path / "none", "--json"))
    assert (fresh["rounds"], fresh["rounds_to_do"], fresh["rounds_shared"]) == (18, 18, 2)
    assert fresh["updates_to_do"] == 18 * 70
    assert [line["rounds_to_do"] for line in fresh["lineages"]] == [5] * 4
    assert {line["state"] for line in fresh["lineages"]} == {"to do"}
    assert not (tmp_path / "none").exists()
    done = answer(raylottery("plan", file, "--store", store, "--json"))
    assert (done["rounds"], done["rounds_to_do"], done["updates_to_do"]) == (18, 0, 0)
    more = raylottery("plan", file, "--store", store, "--set", "prune.rounds=3")
    assert more.returncode == 0
    assert "4 lineages, 26 distinct rounds (2 more are shared), 8 to train" in more.stdout
    assert "5/7" in more.stdout
    assert "from this sweep's own rounds" in more.stdout


def test_status_and_ls(finished, raylottery, rows):
    _, store, _ = finished
    status = answer(raylottery("status", "tiny", "--store", store, "--json"))
    told = {(line["lineage"], line["arm"], line["arm_label"], line["seed"], line["state"],
             line["rounds"], line["rounds_to_do"], line["error"])
            for line in status["lineages"]}  # fmt: skip
    assert told == {
        (row["lineage"], row["arm"], row["arm_label"], row["seed"], "done", 5, 0, None)
        for row in rows
    }
    printed = raylottery("status", "tiny", "--store", store)
    assert printed.returncode == 0
    assert ["scope=layerwise", "5/5", "5/5"] in [li.split() for li in printed.stdout.splitlines()]
    assert "tiny: 18 of 18 distinct rounds done" in printed.stdout
    assert answer(raylottery("ls", "--store", store, "--json")) == [
        {"sweep": "tiny", "arms": 2, "seeds": 2, "lineages": 4, "done": 4, "failed": 0,
         "rounds": 18, "rounds_done": 18, "runs": 0}
    ]  # fmt: skip
    listed = raylottery("ls", "--store", store).stdout.splitlines()
    assert listed[1].split() == ["tiny", "2", "2", "4", "4", "0", "18", "18", "0"]


def test_compare_by_scope(finished, raylottery, rows):
    _, store, _ = finished
    words = ("compare", "tiny", "--by", "prune.scope", "--store", store)
    asked = ("--at-density", "1", "--at-density", "0.5")
    dense, half = answer(raylottery(*words, *asked, "--json"))["rows"]
    assert (dense["value"], dense["reference"], dense["n"]) == ("layerwise", "global", 2)
    assert (dense["effect"], dense["pairs"], dense["missing"]) == (0.0, 2, 0)
    differences = [
        score_at(tickets(rows, "layerwise", seed), 0.5)
        - score_at(tickets(rows, "global", seed), 0.5)
        for seed in (0, 1)
    ]
    assert half["effect"] == pytest.approx(mean(differences))
    assert half["low"] < half["effect"] < half["high"]
    printed = raylottery(*words)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert f"{100 * half['effect']:+.2f}" in printed.stdout
    assert half["sentence"] in printed.stdout


def tickets(rows: list[dict], scope: str, seed: int, control: str = "ticket") -> list[dict]:
    """A curve; that of a control begins at the first pruned round."""
    wanted = (scope, seed, control)
    return [row for row in rows if (row["scope"], row["seed"], row["control"]) == wanted]


def test_compare_by_control(finished, here, rows):
    _, store, _ = finished
    told = answer(here("compare", "tiny", "--by", "control", "--store", store,
                          "--at-density", "0.4", "--json"))  # fmt: skip
    [effect] = told["rows"]
    cells = [(scope, seed) for scope in ("global", "layerwise") for seed in (0, 1)]
    sides = [
        mean(score_at(tickets(rows, *cell, side), 0.4) for cell in cells)
        for side in ("ticket", "random-ticket")
    ]
    assert effect["mean_value"] == pytest.approx(sides[0])
    assert effect["mean_reference"] == pytest.approx(sides[1])
    assert effect["effect"] == pytest.approx(sides[0] - sides[1])
    assert (effect["pairs"], effect["n"], effect["missing"]) == (4, 2, 0)


def test_export(finished, raylottery, here, rows, tmp_path):
    _, store, _ = finished
    for suffix, call in {"csv": raylottery, "parquet": here, "tex": here}.items():
        file = tmp_path / f"an export.{suffix}"
        done = call("export", "tiny", "--to", file, "--store", store)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"wrote {file}\n", "")
    lines = list(csv.DictReader((tmp_path / "an export.csv").read_text().splitlines()))
    assert [(li["key"], li["control"], int(li["kept"]), float(li["score"])) for li in lines] == [
        (row["key"], row["control"], row["kept"], row["score"]) for row in rows
    ]
    exported = pq.read_table(tmp_path / "an export.parquet").to_pylist()
    assert [row["score"] for row in exported] == [row["score"] for row in rows]
    assert [row["prune.scope"] for row in exported] == [row["scope"] for row in rows]
    tex = (tmp_path / "an export.tex").read_text()
    dense = [row["score"] for row in rows if row["round"] == 0]
    assert rf"scope=global & ticket & 2 & ${100 * mean(dense):.1f} \pm " in tex
    assert tex.count(r"\\") == 1 + 4


def test_a_pipe_gets_whole_tables_and_may_close_early(finished):
    """As in `raylottery plan ... | head -1`."""
    file, store, _ = finished
    seeds = ", ".join(map(str, range(400)))
    words = ["plan", str(file), "--store", str(store), "--set", f"seeds=[{seeds}]"]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    for more, first in (
        (["--json"], "{"),
        ([], " ".join(["arm", *(f"seed {s}" for s in range(400))])),
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "raylottery", *words, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=buffered,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with process:
            assert " ".join(process.stdout.readline().split()) == first
            process.stdout.close()
            assert process.stderr.read() == ""


def test_what_an_encoding_lacks_is_spelt_out(finished, raylottery):
    file, store, _ = finished
    words = ("run", file, "--store", store, "--inline")
    done = raylottery(*words, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"are in {store}".replace("\u00e9", "\\xe9") in done.stdout
    assert "\\xb1 " in done.stdout, "of a mean and its interval"


def test_doctor_finds_the_store_sound(finished, here):
    _, store, _ = finished
    findings = answer(here("doctor", "--store", store, "--json"))
    assert all(finding["sound"] for finding in findings)
    found = {(finding["what"], finding["found"]) for finding in findings}
    assert ("data set mnist1d", "3500 training, 500 validation, 1000 test") in found
    assert ("store", "every round's record and files are sound, and every table") in found


def test_a_ticket_is_loaded_in_plain_torch_and_scores_what_its_row_says(
    finished, raylottery, here, rows, tmp_path
):
    from safetensors.torch import load_file

    _, store, _ = finished
    row = next(r for r in rows if (r["scope"], r["seed"], r["round"], r["control"])
               == ("layerwise", 1, 2, "ticket"))  # fmt: skip
    file = tmp_path / "a ticket"
    words = ("ticket", "tiny", row["lineage"][:7], 2, "--to", file, "--store", store)
    assert raylottery(*words).stdout.startswith(f"wrote {file} (")

    found = load_file(file)
    masks = {name[5:]: mask for name, mask in found.items() if name.startswith("mask.")}
    assert set(masks) == {"0.weight", "2.weight"}
    assert sum(int(mask.sum()) for mask in masks.values()) == row["kept"] == 120 + 68
    for name, mask in masks.items():
        for section in ("start", "trained"):
            weights = found[f"{section}.{name}"]
            assert weights.count_nonzero() == mask.sum()
            assert weights[~mask].count_nonzero() == 0
        assert not found[f"start.{name}"].equal(found[f"trained.{name}"])

    script = [sys.executable, "-c", PLAIN_TORCH, str(file)]
    done = subprocess.run(script, capture_output=True, text=True, check=True, cwd="/")
    assert float(done.stdout) == row["score"]

    other = tmp_path / "a control"
    done = here(*words[:4], "--control", "random-ticket", "--to", other, "--store", store)
    assert done.returncode == 0
    altered = load_file(other)
    for name, mask in masks.items():
        assert altered[f"mask.{name}"].sum() == mask.sum()
        assert not altered[f"mask.{name}"].equal(mask)


# What is refused


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("fraction:", "fractoin:", (":5: prune.fractoin: no such field", "'fraction'")),
        ("mnist1d", "mnist2d", (":4: trainer.dataset: no such data set", "'mnist1d'")),
        ("mlp-12", "mpl-12", (":4: trainer.model: ", "mlp-300-100")),
        ("2ep", "2eq", (":4: trainer.length: no such unit: 'eq'", "ep (epochs)")),
        ("2ep", "900ts", (":4: trainer.length: ", "Units: it, ep")),
        ("fraction: 0.5", "fraction: 1.0", (":5: prune.fraction: must be below 1, not 1.0",)),
        ("fraction: 0.5", "fraction: 0.0", (":5: prune.fraction: must be above 0, not 0.0",)),
        ("rounds: 2", "rounds: 0", (":5: prune.rounds: must be at least 1, not 0",)),
        ("[global, layerwise]", "[]", (":8: axes.prune.scope: ", "has no arms; list some")),
        ("prune.scope", "prune.scop", (":8: axes.prune.scop: ", "'prune.scope'")),
        ("layerwise]", "global]", (":8: axes.prune.scope[1]: 'global' is listed twice",)),
        ("[random-ticket]", "[reinit, reinit]", (":9: controls[1]: ", "reinit is listed twice")),
        ("[random-ticket]", "[random-tiket]", (":9: controls[0]: no such", "'random-ticket'")),
        (TINY, "- name: tiny\n", (":1: a sweep file is a mapping",)),
        (TINY, "", ("a sweep file is a mapping", "it is empty")),
        ("seeds: [0, 1]", "seeds: [0, 1", ("not YAML",)),
        ("seeds:", "name: again\nseeds:", (":6: ", "name", "twice")),
        ("name: tiny", "name: a/b", (":2: name: 'a/b' cannot name a folder",)),
        ("name: tiny", "name: ../b", (":2: name: '../b' cannot name a folder",)),
        ("name: tiny", "name: a..b", (":2: name: 'a..b' cannot name a folder", "no `..`")),
    ],
)
def test_a_bad_sweep_file_is_refused(here, tmp_path, old, new, parts):
    """With the file, the line, the key and the mend; and nothing is written."""
    assert old in TINY
    (tmp_path / "bad.yaml").write_text(TINY.replace(old, new, 1))
    done = here("run", "bad.yaml", "--store", "store", "--inline")
    refused(done, 2, "bad.yaml", *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--set prune", ("--set prune: expected KEY=VALUE, such as prune.rounds=3",)),
        ("--set prune.rounds=three", ("--set prune.rounds: ", "whole number", "'three'")),
        ("--set prune.round=3", ("--set prune.round: no such field", "'rounds'")),
        ("--set prune.scope=erk", ("--set prune.scope: ", "axes.prune.scope")),
        ("--set prune.rounds=[", ("--set prune.rounds=[: not YAML",)),
        ("--max-concurrent 0", ("--max-concurrent 0: at least one",)),
        ("--address nowhere", ("--address nowhere: expected HOST:PORT",)),
        ("--address http://x:8265", ("--address http://x:8265: ", "HOST:PORT")),
        ("--inline --address x:1", ("--inline", "--address", "only one")),
        ("--store file", ("file is a file, and a store is a folder", "--store")),
        ("--store file/below", ("file/below cannot be used: Not a directory", "--store")),
        ("--store s4://bucket", ("s4://bucket", "Did you mean 's3'")),
    ],
)
def test_a_wrong_run_is_refused(here, monkeypatch, tmp_path, words, parts):
    monkeypatch.setenv("RAYLOTTERY_STORE", "store")
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "file").write_text("")
    done = here("run", "tiny.yaml", *words.split())
    refused(done, 2, *parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "tiny.yaml"]


AGENTS = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [8], length: 2000ts}
prune: {fraction: 0.5, rounds: 2}
seeds: [0]
"""


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        (TINY, "prune.rounds=40", ("tiny: prune.rounds: round 10 would prune none of the 1 ",
                                   "Set prune.rounds to at most 9", "(arm scope=global)")),
        (AGENTS, "prune.rounds=6", ("agents: prune.rounds: round 6 would prune none of the 1 ",
                                    "(of 48 prunable ones", "to at most 5")),
        (AGENTS, "trainer.env=CartPole-v7", ("agents: trainer.env: ", "v7", "CartPole-v1")),
        (AGENTS, "trainer.model=nature", ("agents: trainer.model: ", "Say model: mlp")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["plan", "run --inline", "run --address 127.0.0.1:1"])
def test_what_could_only_fail_in_the_middle_is_refused_before_anything_starts(
    here, tmp_path, command, text, words, parts
):
    """Not even a cluster is looked for."""
    (tmp_path / "deep.yaml").write_text(text)
    command, *options = command.split()
    done = here(command, "deep.yaml", "--store", "store", "--set", words, *options)
    refused(done, 2, *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["deep.yaml"]


def test_a_sweep_that_is_done_is_not_looked_at_again(finished, here, monkeypatch):
    """Its environment or its data may be gone: the answers are in the store."""
    file, store, _ = finished
    monkeypatch.setattr("raylottery.trainers.survey.survey", None)
    for command in (["plan"], ["run", "--inline"]):
        assert here(*command, file, "--store", store).returncode == 0


def test_a_refusal_reaches_the_shell(raylottery, finished, tmp_path):
    _, store, _ = finished
    (tmp_path / "bad.yaml").write_text(TINY.replace("rounds: 2", "rounds: 0"))
    done = raylottery("run", "bad.yaml", "--inline", cwd=tmp_path)
    refused(done, 2, "bad.yaml:5: prune.rounds: must be at least 1")
    refused(raylottery("compare", "tinny", "--by", "control", "--store", store), 3, "'tiny'")


def test_a_sweep_file_that_is_not_there(raylottery, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = raylottery("run", "tinny.yaml", "--inline", cwd=tmp_path)
    refused(done, 2, "tinny.yaml: no such file. Did you mean 'tiny.yaml'?")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_cluster_that_is_not_there(raylottery, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    begun = time.monotonic()
    done = raylottery("run", "tiny.yaml", "--store", "s", "--address", "127.0.0.1:1", cwd=tmp_path)
    assert time.monotonic() - begun < 20
    refused(done, 3, "no Ray cluster answers at 127.0.0.1:1", "`ray start --head`")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ("status tinny", 3, ("no sweep 'tinny'", "Did you mean 'tiny'?")),
        ("compare tinny --by control", 3, ("no sweep 'tinny'", "Did you mean 'tiny'?")),
        ("export tinny --to OUT/x.csv", 3, ("no sweep 'tinny'", "Did you mean 'tiny'?")),
        ("ticket tinny x 0 --to OUT/x", 3, ("no sweep 'tinny'", "Did you mean 'tiny'?")),
        (
            "ticket tiny zzz 0 --to OUT/x",
            3,
            ("no lineage begins with 'zzz'", "status tiny --json"),
        ),
        ("ticket tiny LINEAGE 3 --to OUT/x", 3, ("no round 3", "0 to 2")),
        ("ticket tiny LINEAGE -1 --to OUT/x", 3, ("no round -1", "0 to 2")),
        ("ticket tiny LINEAGE 1 --control reinit --to OUT/x", 3, ("no control 'reinit'", "Valid")),
        ("ticket tiny LINEAGE 0 --control random-ticket --to OUT/x", 3, ("no round 0", "1 to 2")),
        ("ticket tiny LINEAGE 1 --to OUT/no/x", 2, ("cannot write", "a folder that exists")),
        ("ticket tiny LINEAGE 1 --to OUT", 2, ("cannot write", "Is a directory")),
        ("export tiny --to OUT/no/x.csv", 2, ("cannot write", "a folder that exists")),
        ("export tiny --to OUT/x.xls", 2, ("x.xls", ".csv, .parquet, .tex")),
        ("compare tiny --by prune.scop", 2, ("'prune.scop'", "Did you mean 'prune.scope'?")),
        ("compare tiny --by control --metric scor", 2, ("'scor'", "Did you mean 'score'?")),
        ("compare tiny --by prune.scope --against globl", 2, ("globl", "Did you mean 'global'?")),
        ("compare tiny --by prune.scope --at-density 20", 2, ("density 20", "0.1 for 10 %")),
    ],
)
def test_what_is_not_in_the_store_is_named(finished, here, rows, tmp_path, words, code, parts):
    _, store, _ = finished
    before = contents(store)
    words = words.replace("LINEAGE", rows[0]["lineage"]).replace("OUT", str(tmp_path))
    refused(here(*words.split(), "--store", store), code, *parts)
    assert contents(store) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["ls", "status tiny", "compare tiny --by control", "export tiny --to x.csv",
              "ticket tiny x 0 --to x"]
)  # fmt: skip
def test_a_store_that_is_not_there(here, tmp_path, words):
    refused(here(*words.split()), 3, "no store at ./results", "--store")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_one_study_unless_replaced(finished, here, tmp_path):
    file, store, _ = finished
    before = contents(store)
    change = ("--set", "trainer.lr=0.02")
    done = here("run", file, "--store", store, "--inline", *change)
    refused(done, 2, "'tiny'", "trainer.lr was 0.01, is now 0.02", "`name:`", "--replace")
    assert contents(store) == before

    (tmp_path / "tiny.yaml").write_text(TINY)
    words = ("run", "tiny.yaml", "--store", "s", "--inline", "--set", "axes={}")
    small = ("--set", "controls=[]", "--set", "prune.rounds=1")
    assert here(*words, *small).returncode == 0
    old = read_rows(tmp_path / "s")
    assert here(*words, *small, *change, "--replace").returncode == 0
    new = read_rows(tmp_path / "s")
    assert len(old) == len(new) == 4
    assert {row["key"] for row in old}.isdisjoint(row["key"] for row in new)
    assert len(records(tmp_path / "s")) == 8, "the rounds of the sweep before stay"
    refused(here(*words, *small), 2, "trainer.lr was 0.02, is now 0.01")


# Interrupts


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[dict]:
    """The rows of the slow sweep, trained in one go."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slow.yaml").write_text(SLOW)
    assert main(["run", f"{folder}/slow.yaml", "--store", f"{folder}/s", "--inline"]) == 0
    return read_rows(folder / "s", "slow")


@pytest.fixture
def start(tmp_path):
    """Starts a run in a process group of its own, and waits until rounds are committed."""
    (tmp_path / "slow.yaml").write_text(SLOW)
    store = tmp_path / "s"
    words = ["run", f"{tmp_path}/slow.yaml", "--store", str(store), "--inline"]
    started: list[subprocess.Popen[str]] = []

    def call(*more: str, rounds: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "raylottery", *words, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        started.append(process)
        deadline = time.monotonic() + 60
        while len(records(store)) < rounds:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        wait_for_lease(store, deadline)
        return process

    yield call, words, store
    for process in started:
        process.kill()
        process.communicate()


def wait_for_lease(store: Path, deadline: float) -> None:
    """Until a round is being trained."""
    while not leased(store):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leased(store: Path) -> set[str]:
    """Keys of rounds with a lease and no record."""
    folders = {path.parent for path in store.glob("rounds/*/*/lease.json")}
    return {folder.name for folder in folders if not (folder / "record.json").exists()}


def strike(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """As a terminal does: the whole process group."""
    os.killpg(process.pid, number)


def test_an_interrupt_finishes_the_round_and_the_next_run_the_rest(
    start, here, uninterrupted, fixed
):
    call, words, store = start
    process = call(rounds=1)
    before = len(records(store))
    strike(process, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    done = len(records(store))
    assert before < done < 5
    assert "stopping: the running rounds are finished first" in out
    assert f"interrupted: {5 - done} rounds are left; run the same command to go on" in out
    partial = read_rows(store, "slow")
    assert fixed(partial) == fixed(uninterrupted)[:done]
    assert {row["round"] for row in read_rows(store, "slow", "curves")} == set(range(done))
    assert not leased(store)
    assert list(store.glob("sweeps/slow/stop-*")) == []

    assert answer(here(*words, "--json"))["rounds_trained"] == 5 - done
    whole = read_rows(store, "slow")
    assert whole[:done] == partial
    assert fixed(whole) == fixed(uninterrupted)


def test_a_second_interrupt_stops_at_once_and_loses_no_finished_round(start):
    """The running round would take a minute and more."""
    call, _, store = start
    long = "rewind={weights: final, retrain: 5000ep}"
    process = call("--set", "trainer.length=2ep", "--set", long, rounds=1)
    [record] = records(store)
    kept = record.read_bytes()
    strike(process, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first one lets the round go on"
    begun = time.monotonic()
    strike(process, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 8
    assert (process.returncode, err) == (130, "")
    assert "interrupted: 4 rounds are left" in out
    assert records(store) == {record}
    assert record.read_bytes() == kept
    assert [row["round"] for row in read_rows(store, "slow")] == [0]
    assert not leased(store)
    assert list(store.glob("sweeps/slow/stop-*")) == []


def test_after_a_kill_the_next_run_goes_on_at_once(start, uninterrupted, fixed):
    """The lease of a process that is dead keeps nobody waiting."""
    call, words, store = start
    process = call(rounds=2)
    strike(process, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    orphans, kept = leased(store), {path: path.read_bytes() for path in records(store)}
    begun = time.monotonic()
    assert main(words) == 0
    assert time.monotonic() - begun < 15, "patience with a silent lease is twice as long"
    whole = read_rows(store, "slow")
    assert fixed(whole) == fixed(uninterrupted)
    assert {row["key"] for row in whole if row["attempt"] > 1} == orphans
    assert {path: path.read_bytes() for path in kept} == kept
    assert not leased(store)


# In a terminal


def test_run_in_a_terminal_leaves_its_findings_there(tmp_path):
    """The board is drawn while it goes, and gone in the end."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    words = ["run", f"{tmp_path}/tiny.yaml", "--store", f"{tmp_path}/s", "--inline"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "raylottery", *words, "--set", "seeds=[7]"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd="/",
        env=os.environ
        | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "NO_COLOR": ""},
    )
    os.close(theirs)
    text = read_all(ours)
    assert process.wait(60) == 0, text
    assert "Traceback" not in text
    assert "tiny: 9 rounds of 2 lineages to train (0 done), 1 at a time, on this process" in text
    assert "scope=layerwise" in text
    assert "seed 7" in text
    board, _, findings = text.rpartition("\x1b[2K")
    assert "/9 rounds" in board
    assert "/9 rounds" not in findings
    assert "trained 9 rounds in" in findings
    dense = next(row["score"] for row in read_rows(tmp_path / "s") if row["round"] == 0)
    assert f"{100 * dense:.1f}" in findings


def read_all(descriptor: int) -> str:
    """What a terminal is told until nobody has it open any more."""
    told = io.BytesIO()
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            part = b""
        if not part:
            os.close(descriptor)
            return told.getvalue().decode()
        told.write(part)
