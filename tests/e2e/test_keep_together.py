"""What a sweep keeps on an object store, and where two runs of it keep different things."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylottery.cli.progress import Diary
from raylottery.driver import keep
from raylottery.driver.run import run
from raylottery.driver.stored import stored_sweep
from raylottery.spec import Lineage, parse_sweep
from raylottery.store import Store, layout
from raylottery.store.soundness import check
from tests.e2e.conftest import TINY


SMALL = ("seeds=[0]", "rewind.weights=13it")


def left(store: Store) -> tuple[int, int]:
    """Tickets and snapshots."""
    paths = [entry.path for entry in store.files.walk()]
    tickets = [path for path in paths if path.endswith(f"/{layout.TICKET}")]
    return len(tickets), len([path for path in paths if path.startswith("snapshots/")])


def train(store: Store, *changes: str, watcher: Diary | None = None):
    sweep = parse_sweep(TINY, overrides=(*SMALL, *changes))
    return run(sweep, store, watcher or Diary(say=lambda line: None), inline=True)


@pytest.fixture
def same(fixed) -> Callable[[Store, Store], bool]:
    """Whether two stores hold the same tables of the same sweep."""

    def rows(store: Store, name: str) -> list[dict]:
        return fixed(
            pq.read_table(BytesIO(store.files.read(layout.table("tiny", name)))).to_pylist()
        )

    def compare(one: Store, other: Store) -> bool:
        names = ("rounds", "curves", "layers", "failures")
        return all(rows(one, name) == rows(other, name) for name in names)

    return compare


def test_on_s3_the_same_goes_and_comes_back(tmp_path, bucket, same, caplog):
    there, here = Store.open(bucket.format("kept")), Store.open(tmp_path)
    train(there, "keep=last")
    train(here)
    assert (left(there), left(here)) == ((2, 1), (9, 2))
    assert same(there, here)
    assert not list(check(there))
    assert not train(there, "keep=last").ledger.trained
    more = "controls=[random-ticket, reinit]"
    again = train(there, "keep=last", more)
    assert again.ledger.rounds == 4 + 1 + 2, "controls; the dense round; rounds 1"
    assert "3 finished rounds are trained again" in caplog.text
    train(here, more)
    assert left(there) == (2, 1)
    assert same(there, here)


TICKETS = {"all": 9, "last": 2}


class Second(Diary):
    """After some rounds of one run, another begins and ends."""

    def __init__(self, after: int, other: Callable[[], object]):
        super().__init__(say=lambda line: None)
        self.after, self.other = after, other

    def trained(self, lineage: Lineage, key: str) -> None:
        super().trained(lineage, key)
        self.after -= 1
        if self.after == 0:
            self.other()


@pytest.mark.parametrize(("first", "second"), [("last", "all"), ("all", "last")])
@pytest.mark.parametrize("after", [1, 4])
def test_of_two_runs_the_one_that_began_last_says_what_is_kept(
    tmp_path, monkeypatch, caplog, same, first, second, after
):
    """And whoever wants it otherwise runs it again."""
    monkeypatch.setattr(keep, "EVERY_S", 0.0)
    store, whole = Store.open(tmp_path / "two"), Store.open(tmp_path / "whole")
    other = lambda: train(store, f"keep={second}")  # noqa: E731
    done = train(store, f"keep={first}", watcher=Second(after, other))
    assert done.exit_code == 0
    assert stored_sweep("tiny", store).keep.what == second
    assert f"another run of tiny has begun since, with keep: {second}" in caplog.text
    train(whole)
    assert same(store, whole)
    assert not list(check(store))
    assert left(store)[0] == TICKETS[second]
    assert not train(store, f"keep={second}").ledger.trained
    train(store, f"keep={first}")
    assert left(store)[0] == TICKETS[first]
    assert same(store, whole)


def test_two_processes_that_keep_different_things_end_with_one_table(
    tmp_path: Path, raylottery, same
):
    """At the same time, with real leases between them."""
    import threading

    (tmp_path / "tiny.yaml").write_text(TINY)
    words = [
        "run",
        "tiny.yaml",
        "--store",
        "two",
        "--inline",
        *(w for s in SMALL for w in ("--set", s)),
    ]
    done = {}

    def drive(what: str) -> None:
        done[what] = raylottery(*words, "--set", f"keep={what}", cwd=tmp_path)

    threads = [threading.Thread(target=drive, args=(what,)) for what in ("last", "all")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done[what].returncode for what in ("last", "all")] == [0, 0], done
    store, whole = Store.open(tmp_path / "two"), Store.open(tmp_path / "whole")
    train(whole)
    assert same(store, whole)
    assert not list(check(store))
    train(store)
    assert left(store)[0] == TICKETS["all"]
    assert same(store, whole)
