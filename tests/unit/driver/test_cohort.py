"""Lineages that are trained side by side: none depends on its neighbours, or on their number."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raylottery import trainers
from raylottery.cli.progress import Diary
from raylottery.driver import cohort as cohorts
from raylottery.driver.cohort import Cohort, Members, Shares, train_cohort
from raylottery.driver.plan import make_plan
from raylottery.driver.resources import kind
from raylottery.driver.run import run
from raylottery.errors import TrainingError
from raylottery.spec import Sweep, parse_sweep
from raylottery.store import Store, layout
from tests.e2e.conftest import FREE
from tests.neighbours import SWEEP, Neighbour


Meet = Callable[[int, float], None]


@pytest.fixture
def neighbours(monkeypatch) -> Callable[[Meet], None]:
    """The compiled engine is one that does what a test tells it to."""
    monkeypatch.setitem(
        trainers.TRAINERS, ("classifier", "compiled"), "tests.neighbours:Neighbour"
    )

    def set_up(meet: Meet) -> None:
        monkeypatch.setattr(Neighbour, "meet", staticmethod(meet), raising=False)

    set_up(lambda seed, density: None)
    return set_up


def sweep_of(*changes: str) -> Sweep:
    return parse_sweep(SWEEP, overrides=changes)


def seeds_alone(count: int, *changes: str) -> Sweep:
    return sweep_of("axes={}", "controls=[]", f"seeds={list(range(count))}", *changes)


def cohort_of(sweep: Sweep, store: Store) -> Cohort:
    """All lineages of a sweep, as one trial of it would get them."""
    store.files.write(layout.sweep_file(sweep.name), b"name: cohort")
    plan = make_plan(sweep, None)
    trunks = {line.rounds[0].key: () for line in plan.lineages}
    return Cohort(
        sweep=sweep.name, store=store.uri, run="r", lineages=plan.lineages, extents=trunks
    )


def said_by(cohort: Cohort) -> list[dict]:
    return [signal for news in train_cohort(cohort) for signal in news]


def of_each(cohort: Cohort, signals: list[dict]) -> dict[int, list[dict]]:
    """The signals by seed, in order."""
    seeds = {line.id: line.seed for line in cohort.lineages}
    found = defaultdict(list)
    for signal in signals:
        found[seeds[signal["lineage"]]].append(signal)
    return dict(found)


def events(signals: list[dict]) -> list[str]:
    return [signal["event"] for signal in signals]


WHOLE = ["begun", "round", "round", "round", "done"]


def test_what_each_lineage_says_comes_in_order_and_ends_once(tmp_path, neighbours):
    cohort = cohort_of(seeds_alone(5), Store.open(tmp_path))
    found = of_each(cohort, said_by(cohort))
    assert {seed: events(signals) for seed, signals in found.items()} == dict.fromkeys(
        range(5), WHOLE
    )
    for line in cohort.lineages:
        keys = [signal["key"] for signal in found[line.seed] if signal["event"] == "round"]
        assert keys == [round.key for round in line.rounds]
    signals = [signal for signals in found.values() for signal in signals]
    assert {signal["thread"] for signal in signals} == {0, 1}
    assert len({signal["worker"] for signal in signals}) == 1


def test_as_many_are_under_way_as_the_trial_has_cpus(tmp_path, neighbours):
    """Each waits for the others: three that are trained at once meet, and no fourth."""
    together, most = threading.Barrier(3, timeout=60), []

    def meet(seed: int, density: float) -> None:
        most.append(sum(thread.name.startswith("lineage-") for thread in threading.enumerate()))
        together.wait()

    neighbours(meet)
    cohort = cohort_of(seeds_alone(6, "resources.cpus=3.9"), Store.open(tmp_path))
    assert set(events(said_by(cohort))) == {"begun", "round", "done"}
    assert set(most) == {3}


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        (("resources.cpus=0.5",), 1),
        (("resources.cpus=4", "cohort=2"), 2),
        (("resources.cpus=64",), 6),
        (("resources.cpus=64", "trainer.engine=torch"), 1),
    ],
)
def test_how_many_threads_a_trial_has(tmp_path, changes, threads):
    assert cohort_of(seeds_alone(6, *changes), Store.open(tmp_path)).threads == threads


def test_a_lineage_that_fails_or_breaks_ends_alone(tmp_path, neighbours):
    def meet(seed: int, density: float) -> None:
        if seed == 1 and density < 1:
            raise TrainingError("the loss is no number. Lower trainer.lr")
        if seed == 2:
            raise OSError("the disk is away\nand more of it")
        if seed == 3:
            raise SystemExit

    neighbours(meet)
    store = Store.open(tmp_path)
    cohort = cohort_of(seeds_alone(6), store)
    found = of_each(cohort, said_by(cohort))
    assert events(found[1]) == ["begun", "round", "failed"]
    assert found[1][-1]["error"] == "round 1 (ticket): the loss is no number. Lower trainer.lr"
    assert found[1][-1]["key"] == cohort.lineages[1].rounds[1].key
    assert events(found[2]) == ["begun", "broken"]
    assert found[2][-1]["error"] == "round 0 (ticket): the disk is away"
    assert events(found[3]) == ["begun", "broken"]
    assert all(events(found[seed]) == WHOLE for seed in (0, 4, 5))
    [note] = store.failures(cohort.lineages[2].rounds[0].key)
    assert note["error"] == "OSError"
    assert not list(tmp_path.rglob("lease.json"))


def test_a_round_that_another_trains_is_busy_and_the_others_go_on(tmp_path, neighbours):
    store = Store.open(tmp_path)
    cohort = cohort_of(seeds_alone(3), store)
    lease = store.lease(cohort.lineages[1].rounds[0].key)
    assert lease is not None
    with lease:
        found = of_each(cohort, said_by(cohort))
    assert events(found[1]) == ["begun", "busy"]
    assert events(found[0]) == events(found[2]) == WHOLE


def test_a_stop_lets_the_rounds_that_run_finish_on_all_threads(tmp_path, neighbours):
    store = Store.open(tmp_path)
    cohort = cohort_of(seeds_alone(5), store)
    both, told = threading.Barrier(2, timeout=60), threading.Event()

    def meet(seed: int, density: float) -> None:
        assert density == 1, "no round is begun after the stop"
        if both.wait() == 0:
            store.files.write(layout.stop("cohort", "r"), b"")
            told.set()
        assert told.wait(60)

    neighbours(meet)
    found = of_each(cohort, said_by(cohort))
    assert sorted(map(events, found.values()), key=len) == [
        *[["begun", "stopped"]] * 3,
        *[["begun", "round", "stopped"]] * 2,
    ]


def test_who_stops_listening_ends_what_is_under_way_at_once(tmp_path, neighbours):
    """As the second Ctrl-C does, inline: no lease is left, and no thread."""
    running = threading.Barrier(3, timeout=60)

    def meet(seed: int, density: float) -> None:
        running.wait()
        while True:
            time.sleep(0.01)

    neighbours(meet)
    cohort = cohort_of(seeds_alone(5), Store.open(tmp_path))
    with closing(train_cohort(cohort)) as said:
        assert len(next(said)) > 0
        running.wait()
    assert not [one for one in threading.enumerate() if one.name.startswith("lineage-")]
    assert not list(tmp_path.rglob("lease.json"))
    assert not list(tmp_path.rglob("record.json"))


def test_a_log_has_the_lines_of_its_own_lineage_and_of_nobody_elses(tmp_path, neighbours):
    """What a thread says that belongs to no lineage may matter to any."""
    both = threading.Barrier(2, timeout=60)

    def meet(seed: int, density: float) -> None:
        both.wait()  # both logs are open
        logging.getLogger("raylottery.trainers").warning("said by seed %s", seed)
        if seed == 0 and density == 1:
            other = threading.Thread(
                target=logging.getLogger("raylottery.store.lease").warning, args=("of a lease",)
            )
            other.start()
            other.join()
        both.wait()

    neighbours(meet)
    cohort = cohort_of(seeds_alone(2), Store.open(tmp_path))
    said_by(cohort)
    for line in cohort.lineages:
        log = (tmp_path / layout.log("cohort", line.id)).read_text()
        assert log.count(f"said by seed {line.seed}") == 3
        assert f"said by seed {1 - line.seed}" not in log
        assert log.count("of a lease") == 1
    assert not logging.getLogger("raylottery").handlers


def test_a_cohort_goes_to_a_worker_as_plain_values(tmp_path):
    cohort = cohort_of(sweep_of("seeds=[3, 4]"), Store.open(tmp_path))
    sent = json.dumps(cohort.to_json())
    back = Cohort.from_json(json.loads(sent))
    for one, other in zip(cohort.lineages, back.lineages, strict=True):
        assert (one.id, one.seed, one.arm.id, one.arm.label) == (
            other.id, other.seed, other.arm.id, other.arm.label,
        )  # fmt: skip
        assert one.rounds == other.rounds
    assert (back.threads, back.run, back.sweep) == (2, "r", "cohort")
    assert set(back.extents) == set(cohort.extents)
    assert sent.count("batch_size") == 2, "each arm once, however many seeds"


def test_memory_that_a_neighbour_may_have_taken_is_tried_for_again(tmp_path, neighbours):
    def meet(seed: int, density: float) -> None:
        if seed == 1:
            raise MemoryError

    neighbours(meet)
    for cpus, event in ((2, "broken"), (1, "failed")):
        store = Store.open(tmp_path / str(cpus))
        sweep = seeds_alone(3, f"resources.cpus={cpus}", "resources.memory=4GB")
        cohort = cohort_of(sweep, store)
        found = of_each(cohort, said_by(cohort))
        assert events(found[1]) == ["begun", event]
        assert "out of memory: the trial asked for 4GB" in found[1][-1]["error"]
        assert events(found[0]) == events(found[2]) == WHOLE


# What the driver makes of it


def test_a_lost_trial_blames_those_that_were_begun():
    lines = make_plan(seeds_alone(4), None).lineages
    members = Members(lines)
    for event, line in (("begun", 0), ("begun", 1), ("round", 0), ("done", 0)):
        assert members.says({"lineage": lines[line].id, "event": event}) == lines[line]
    lost = {line.seed: signal["event"] for line, signal in members.lost("gone")}
    assert lost == {1: "broken", 2: "unbegun", 3: "unbegun"}
    assert not list(members.lost("gone"))


def test_where_none_was_begun_any_may_have_broken_it():
    lines = make_plan(seeds_alone(2), None).lineages
    assert {s["event"] for _, s in Members(lines).lost("gone")} == {"broken"}


@pytest.mark.parametrize(
    ("changes", "ready", "slots", "share"),
    [
        ((), 100, 8, 13),
        ((), 9, 8, 2),
        ((), 1, 8, 2),
        (("resources.cpus=4",), 9, 8, 4),
        ((), 10_000, 8, 2 * cohorts.MOST),
        (("cohort=5",), 100, 8, 5),
        (("trainer.engine=torch",), 100, 8, 1),
    ],
)
def test_the_share_of_a_trial(changes, ready, slots, share):
    [line] = make_plan(seeds_alone(1, *changes), None).lineages
    assert Shares({kind(line.arm.study): slots})(line, ready) == share


def trained(folder: Path, *changes: str) -> tuple[list[dict], Counter[str]]:
    """The rows of a sweep that is run in this process, and how its lineages ended."""
    ends: Counter[str] = Counter()

    class Ends(Diary):
        def ended(self, lineage, event, error) -> None:
            super().ended(lineage, event, error)
            ends[event] += 1

    sweep = sweep_of("retries=1", *changes)
    run(sweep, Store.open(folder), Ends(say=lambda line: None), inline=True)
    rows = pq.read_table(folder / "sweeps/cohort/rounds.parquet").to_pylist()
    return [{k: v for k, v in row.items() if k not in FREE} for row in rows], ends


GROUPED: Mapping[str, tuple[str, ...]] = {
    "one at a time": ("cohort=1",),
    "four on one thread": ("cohort=4", "resources.cpus=1"),
    "four on two threads": ("cohort=4",),
    "all on five threads": ("resources.cpus=5",),
}


@pytest.mark.parametrize("changes", GROUPED.values(), ids=GROUPED)
def test_the_table_is_the_same_however_lineages_are_grouped(tmp_path, neighbours, changes):
    alone, _ = trained(tmp_path / "alone", "resources.cpus=1", "cohort=1")
    rows, ends = trained(tmp_path / "grouped", *changes)
    assert rows == alone
    assert len(rows) == 6 * 5
    assert ends == {"done": 6}


def test_what_broke_is_tried_again_with_no_neighbour(tmp_path, neighbours):
    changes = ("axes={}", "controls=[]", "seeds=[0, 1, 2, 3]")
    undisturbed, _ = trained(tmp_path / "undisturbed", *changes)
    beside: list[int] = []

    def meet(seed: int, density: float) -> None:
        if seed == 1 and density < 1:
            names = [thread.name for thread in threading.enumerate()]
            beside.append(sum(name.startswith("lineage-") for name in names))
            if len(beside) == 1:
                raise OSError("the disk is away")

    neighbours(meet)
    rows, ends = trained(tmp_path / "broken", *changes)
    assert ends == {"done": 4, "again": 1}
    assert rows == undisturbed
    assert beside == [2, 1, 1]
