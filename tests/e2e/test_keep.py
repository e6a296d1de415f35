"""What a sweep does not keep goes as rounds are finished; tables never tell."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver import keep
from raylottery.driver.plan import make_plan
from raylottery.driver.run import run
from raylottery.driver.stored import describe
from raylottery.errors import NotKept
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store, layout
from raylottery.store.soundness import check
from tests.e2e.conftest import TINY


LATE = ("rewind.weights=13it",)
TABLES = ("rounds", "curves", "layers", "failures")


def tickets(store: Path) -> int:
    return len(list(store.glob(f"rounds/*/*/*/{layout.TICKET}")))


def snapshots(store: Path) -> int:
    return len(list(store.glob("snapshots/*/*")))


def weights(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[..., Path]:
    """A store in which everything is kept, of a sweep with some changes; made once."""
    made: dict[tuple[str, ...], Path] = {}

    def store(*changes: str) -> Path:
        if changes not in made:
            made[changes] = tmp_path_factory.mktemp("whole")
            sweep = parse_sweep(TINY, overrides=changes)
            run(sweep, Store.open(made[changes]), Diary(say=lambda line: None), inline=True)
        return made[changes]

    return store


@pytest.fixture
def same(table, fixed):
    """Whether two stores hold the same tables of the same sweep."""

    def compare(one: Path, other: Path) -> bool:
        return all(fixed(table(one, name)) == fixed(table(other, name)) for name in TABLES)

    return compare


@pytest.mark.parametrize(
    ("policy", "left", "steps"),
    [
        ("tickets", 18, 0),
        ("last", 4, 2),
        ("{what: last, densities: [0.5]}", 8, 2),
        ("{what: last, densities: [1]}", 6, 2),
    ],
)
def test_less_is_kept_and_the_tables_are_the_same(
    tmp_path, run_inline, same, whole, policy, left, steps
):
    run_inline(tmp_path / "less", *LATE, f"keep={policy}")
    assert (tickets(whole(*LATE)), snapshots(whole(*LATE))) == (18, 4)
    assert (tickets(tmp_path / "less"), snapshots(tmp_path / "less")) == (left, steps)
    assert weights(tmp_path / "less") < weights(whole(*LATE))
    assert same(whole(*LATE), tmp_path / "less")
    assert not list(check(Store.existing(tmp_path / "less")))
    assert not run_inline(tmp_path / "less", *LATE, f"keep={policy}").ledger.trained


def test_it_goes_while_the_sweep_runs(tmp_path, run_inline, monkeypatch):
    """At no time more than the trunks' and two of each lineage and a control are there."""
    monkeypatch.setattr(keep, "EVERY_S", 0.0)
    most = []
    real = keep.Keeper.tick

    def tick(keeper: keep.Keeper) -> None:
        real(keeper)
        most.append(tickets(tmp_path))

    monkeypatch.setattr(keep.Keeper, "tick", tick)
    run_inline(tmp_path, "keep=last", "prune.rounds=5", "seeds=[0]")
    assert tickets(tmp_path) == 2
    assert max(most) <= 6, "of the 21 that are trained"


def test_saying_less_of_a_finished_sweep_trains_nothing_and_takes_it_away(tmp_path, run_inline):
    run_inline(tmp_path)
    again = run_inline(tmp_path, "keep=last")
    assert not again.ledger.trained
    assert tickets(tmp_path) == 4


def test_more_rounds_need_the_last_ticket_alone(tmp_path, run_inline, same, whole):
    run_inline(tmp_path / "last", *LATE, "keep=last")
    more = run_inline(tmp_path / "last", *LATE, "keep=last", "prune.rounds=4")
    assert len(more.ledger.trained) == more.ledger.rounds == 4 * 2 * 2
    assert tickets(tmp_path / "last") == 4
    assert same(whole(*LATE, "prune.rounds=4"), tmp_path / "last")


def test_what_went_and_is_needed_is_trained_again_once(tmp_path, run_inline, same, whole, caplog):
    """New controls are drawn from the dense tickets and from those of round 1."""
    more = "controls=[random-ticket, reinit]"
    run_inline(tmp_path / "last", "keep=last")
    planned = make_plan(parse_sweep(TINY, overrides=(more, "keep=last")), None)
    result = run_inline(tmp_path / "last", "keep=last", more)
    assert result.ledger.rounds == 4 * 2 + 2 + 4, "controls; dense rounds; rounds 1"
    assert "6 finished rounds are trained again" in caplog.text
    assert tickets(tmp_path / "last") == 4
    assert same(whole(more), tmp_path / "last")
    assert result.plan.rounds.keys() == planned.rounds.keys()


def test_keeping_all_again_brings_back_what_the_sweep_let_go(tmp_path, run_inline, same, whole):
    run_inline(tmp_path / "last", "keep=last")
    back = run_inline(tmp_path / "last")
    assert back.ledger.rounds == 18 - 4
    assert tickets(tmp_path / "last") == 18
    assert same(whole(), tmp_path / "last")


def test_another_sweep_of_the_same_rounds_pays_for_nothing(tmp_path, run_inline):
    run_inline(tmp_path, "keep=last")
    assert not run_inline(tmp_path, "name=other").ledger.trained


def test_what_another_sweep_keeps_stays(tmp_path, run_inline):
    run_inline(tmp_path, "name=careful", "seeds=[0]")
    run_inline(tmp_path, "keep=last")
    of_seed_0 = 1 + 2 * 2 * 2
    assert tickets(tmp_path) == of_seed_0 + 2


def test_what_another_sweep_still_needs_stays(tmp_path, run_inline):
    """It was stopped before it had drawn anything from the dense tickets."""
    other = parse_sweep(TINY, overrides=("name=other", "prune.fraction=0.3", "keep=last"))
    describe(other, Store.open(tmp_path))
    run_inline(tmp_path, "keep=last")
    assert tickets(tmp_path) == 4 + 2
    done = run_inline(tmp_path, "name=other", "prune.fraction=0.3", "keep=last")
    assert done.ledger.rounds == 4 * 2 * 2, "no dense round again"
    assert tickets(tmp_path) == 4 + 4


def test_beside_a_sweep_that_cannot_be_read_all_stays(tmp_path, run_inline, caplog):
    (tmp_path / "sweeps/broken").mkdir(parents=True)
    (tmp_path / "sweeps/broken/sweep.yaml").write_text("name: [")
    run_inline(tmp_path, "keep=last")
    assert tickets(tmp_path) == 18
    assert "it is not known what 'broken' needs" in caplog.text


def test_a_round_under_a_lease_stays(tmp_path, run_inline):
    dense = lineages(parse_sweep(TINY))[0].rounds[0].key
    run_inline(tmp_path)
    with Store.open(tmp_path)._leases.acquire(dense):  # ty: ignore
        run_inline(tmp_path, "keep=last")
        assert tickets(tmp_path) == 4 + 1
    run_inline(tmp_path, "keep=last")
    assert tickets(tmp_path) == 4


def test_who_asks_for_it_is_told_who_let_it_go_and_how_to_get_it_back(
    tmp_path, run_inline, capsys
):
    run_inline(tmp_path, "keep=last")
    lineage = lineages(parse_sweep(TINY))[0]
    dense, *_, last, _ = lineage.rounds
    store = Store.existing(tmp_path)
    record = store.record(dense.key)
    assert record is not None
    with pytest.raises(NotKept) as told:
        store.read_file(record, layout.TICKET)
    assert told.value.key == dense.key
    words = ["ticket", "tiny", lineage.id, "0", "--to", str(tmp_path / "t"), "--store"]
    assert main([*words, str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"the ticket of round {dense.key[:12]} was let go by the sweep 'tiny' (keep: last)" in (
        message
    )
    assert "run tiny again with that" in message
    assert not (tmp_path / "t").exists()
    words[3] = str(last.index)
    assert main([*words, str(tmp_path)]) == 0, "the last is there"


def test_a_ticket_starts_the_same_without_its_parents(tmp_path, run_inline, whole):
    """What it is drawn from has gone: mask and rewind point are enough."""
    run_inline(tmp_path / "last", *LATE, "keep=last")
    lineage = lineages(parse_sweep(TINY, overrides=LATE))[0].id
    files = []
    for store in (whole(*LATE), tmp_path / "last"):
        words = ["ticket", "tiny", lineage, "2", "--to", str(tmp_path / "file")]
        assert main([*words, "--store", str(store)]) == 0
        files.append((tmp_path / "file").read_bytes())
    assert files[0] == files[1]


KILLED = """
import os, signal, sys
from raylottery.cli import main
from raylottery.driver import keep
from raylottery.store import layout
from raylottery.store.local import LocalFiles

keep.EVERY_S, left = float(sys.argv[1]), int(sys.argv[2])
real = LocalFiles.delete

def delete(files, path):
    global left
    if path.endswith(layout.TICKET):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    real(files, path)

LocalFiles.delete = delete
main(sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("every_s", "deletions", "trained"),
    [(0.0, 0, "some"), (1e9, 0, "all"), (1e9, 5, "all")],
)
def test_killed_while_it_takes_away_leaves_a_store_that_goes_on(
    tmp_path, run_inline, same, whole, every_s, deletions, trained
):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY + "keep: last\n")
    words = ["run", str(file), "--store", str(tmp_path / "last"), "--inline"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(every_s), str(deletions), *words],
        check=False,
        timeout=240,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "last").rglob("trimmed.json"))) > deletions
    assert not list(check(Store.existing(tmp_path / "last")))
    again = run_inline(tmp_path / "last", "keep=last")
    assert again.ledger.rounds == len(again.ledger.trained), "none twice"
    assert (not again.ledger.trained) == (trained == "all")
    assert tickets(tmp_path / "last") == 4
    assert same(whole(), tmp_path / "last")


def test_one_shot_rounds_keep_the_last_ticket_too(tmp_path, run_inline):
    run_inline(tmp_path, "rewind={weights: final, retrain: 0it}", "keep=last", "controls=[]")
    assert (tickets(tmp_path), snapshots(tmp_path)) == (4, 0)
