"""Trackers: told from the records of committed rounds, each round once, whatever happens."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raylottery.cli import main
from raylottery.cli.progress import Diary
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.run import run
from raylottery.driver.track import Step, Tracker, Tracking, open_trackers
from raylottery.driver.track_tensorboard import TensorBoard, frames, plain
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import Lineage, Sweep, parse_sweep
from raylottery.store import Store
from tests.e2e.conftest import TINY


SHORT = ("trainer.length=20it", "seeds=[0]", "prune.rounds=1")


def tiny(*changes: str) -> Sweep:
    return parse_sweep(TINY, overrides=(*SHORT, *changes))


def trained(folder: Path, *changes: str, trackers: Sequence[Tracker] = ()) -> Tracking:
    """A sweep, trained in this process and told to trackers."""
    store = Store.open(folder)
    tracking = Tracking(Diary(say=lambda line: None), trackers, store)
    result = run(tiny(*changes), store, tracking, inline=True)
    assert result.exit_code == 0
    tracking.finish(result.plan)
    return tracking


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The store of a sweep that no tracker was told of: two lineages of a dense round, a ticket
    and a control each."""
    folder = tmp_path_factory.mktemp("done")
    trained(folder)
    return folder


@pytest.fixture
def plan(done) -> Plan:
    return make_plan(tiny(), Store.existing(done))


def curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What TensorBoard itself reads, by run and tag."""
    found = {}
    for file in folder.rglob("*tfevents*"):
        events = EventAccumulator(str(file.parent))
        events.Reload()
        name = str(file.parent.relative_to(folder))
        found[name] = {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
        }
    return found


def told(store: Path, plan: Plan, tracker: Tracker) -> Tracking:
    tracking = Tracking(Diary(say=lambda line: None), [tracker], Store.existing(store))
    tracking.finish(plan)
    return tracking


def test_tensorboard_shows_a_run_for_each_lineage_and_a_step_for_each_round(done, plan, tmp_path):
    tracking = told(done, plan, TensorBoard(tmp_path))
    shown = curves(tmp_path)
    runs = {line: f"scope={line.arm.study.prune.scope}/seed-0-{line.id}" for line in plan.lineages}
    assert set(shown) == set(runs.values())
    records = Store.existing(done).records(plan.rounds)
    for lineage, name in runs.items():
        for round in lineage.rounds:
            series = "" if round.control == "ticket" else f"{round.control}/"
            result = records[round.key].result
            for scalar in ("score", "density", "train_score", "loss"):
                value = dict(shown[name][f"{series}{scalar}"])[round.index]
                assert value == pytest.approx(result[scalar])
            seconds = dict(shown[name][f"{series}seconds"])[round.index]
            assert seconds == pytest.approx(records[round.key].seconds)
    assert tracking.feeds[0].count == 6


def test_tensorboards_page_of_parameters_groups_the_seeds_of_an_arm(done, plan, tmp_path):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # ty: ignore

    told(done, plan, TensorBoard(tmp_path))
    groups = {}
    for file in tmp_path.rglob("*tfevents*"):
        _, second, *_ = (event for event, _ in frames(file.read_bytes()))
        [value] = second.summary.value
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        session = data.session_start_info
        groups[session.group_name] = session.hparams["prune.scope"].string_value
    assert groups == {line.arm.id: line.arm.study.prune.scope for line in plan.lineages}


def test_what_tensorboard_has_is_not_told_again_and_a_torn_end_is_mended(done, plan, tmp_path):
    told(done, plan, TensorBoard(tmp_path))
    files = {file: file.read_bytes() for file in tmp_path.rglob("*tfevents*")}
    told(done, plan, TensorBoard(tmp_path))
    assert {file: file.read_bytes() for file in files} == files
    for file, data in files.items():
        for size in (3, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:size])
            told(done, plan, TensorBoard(tmp_path))
            assert file.read_bytes() == data
        file.write_bytes(data[:-1] + b"x")
        told(done, plan, TensorBoard(tmp_path))
        assert file.read_bytes() == data


def test_a_longer_sweep_goes_on_in_the_same_run_and_a_new_axis_renames_its_folder(tmp_path):
    trackers = TensorBoard(tmp_path / "events")
    trained(tmp_path / "store", trackers=[trackers])
    before = curves(tmp_path / "events")
    again = TensorBoard(tmp_path / "events")
    more = "axes={prune.scope: [global, layerwise], rewind.weights: [init]}"
    trained(tmp_path / "store", more, "prune.rounds=2", trackers=[again])
    after = curves(tmp_path / "events")
    assert len(after) == len(before) == 2
    for name, tags in before.items():
        arm, lineage = name.split("/")
        longer = after[f"{arm}_weights=init/{lineage}"]
        assert [number for number, _ in longer["score"]] == [0, 1, 2]
        assert longer["score"][:2] == tags["score"]
        assert [number for number, _ in longer["random-ticket/score"]] == [1, 2]


def test_the_folder_is_in_the_sweeps_own_unless_another_is_named(done, tmp_path, monkeypatch):
    store = Store.existing(done)
    [own] = open_trackers(["tensorboard"], "tiny", store)
    assert own.look == f"tensorboard --logdir {done}/sweeps/tiny/tensorboard"
    monkeypatch.chdir(tmp_path)
    [named] = open_trackers(["tensorboard:a b"], "tiny", store)
    assert named.look == f"tensorboard --logdir '{tmp_path}/a b'"


@pytest.mark.parametrize(
    ("label", "folder"),
    [("scope=global", "scope=global"), ("a/b ../c", "a_b_.._c"), ("..", "base"), ("é=1", "é=1")],
)
def test_an_arms_folder_stays_where_it_belongs(label, folder):
    assert plain(label) == folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tensorbord"], "--track tensorbord: no such tracker. Did you mean 'tensorboard'?"),
        (["tensorboard", "tensorboard:x"], "--track tensorboard is given twice"),
        (["tensorboard:s3://bucket/x"], "give a folder of this machine"),
        (["tensorboard:/dev/null/x"], "/dev/null/x cannot be made: Not a directory. Name another"),
    ],
)
def test_trackers_that_cannot_be_meant_are_refused(done, words, message):
    with pytest.raises(UsageError) as refused:
        open_trackers(words, "tiny", Store.existing(done))
    assert message in str(refused.value)


def test_a_store_elsewhere_needs_a_folder_for_events():
    import pyarrow.fs as pafs

    from raylottery.store.remote import RemoteFiles

    store = Store(RemoteFiles(pafs.LocalFileSystem(), "/bucket", "s3://bucket"))
    with pytest.raises(UsageError, match=r"--track tensorboard:DIR"):
        open_trackers(["tensorboard"], "tiny", store)


class Moody:
    """A tracker that fails as often as it is told to."""

    name, look = "moody", "nowhere"

    def __init__(self, failures: int):
        self.failures = failures
        self.steps: list[tuple[str, int, bool]] = []
        self.closed = False

    def tell(self, lineage: Lineage, steps: Sequence[Step], *, complete: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://me:secret@host is away\nfor long")
        self.steps += [(lineage.id, step.number, complete) for step in steps]

    def close(self) -> None:
        self.closed = True


def test_a_tracker_that_fails_ends_no_sweep_and_catches_up(tmp_path):
    moody = Moody(failures=1)
    tracking = trained(tmp_path, trackers=[moody])
    assert tracking.feeds[0].error is None
    assert len(moody.steps) == 6
    assert [complete for *_, complete in moody.steps] == [True] * 6
    assert moody.closed


def test_a_tracker_that_stays_away_is_told_of_without_its_password(done, plan):
    tracking = told(done, plan, Moody(failures=9))
    assert tracking.feeds[0].error == "http://host is away"
    assert tracking.feeds[0].count == 0


def metrics(database: Path) -> list[tuple]:
    """All that is in MLflow's database, by run, metric and step."""
    with sqlite3.connect(database) as base:
        rows = base.execute(
            "select t.value, m.key, m.step, m.value from metrics m join tags t "
            "on t.run_uuid = m.run_uuid and t.key = 'raylottery.lineage' order by 1, 2, 3"
        ).fetchall()
    base.close()
    return rows


def one(database: Path, question: str) -> list:
    base = sqlite3.connect(database)
    rows = [row[0] for row in base.execute(question)]
    base.close()
    return rows


def test_mlflow_continues_the_same_runs_and_is_told_nothing_twice(tmp_path):
    database, store = tmp_path / "ml.db", tmp_path / "store"
    uri = f"sqlite:///{database}"
    trained(store, trackers=open_trackers([f"mlflow:{uri}"], "tiny", Store.open(store)))
    first = metrics(database)
    assert len(first) == 2 * 3 * 5
    assert len(set(first)) == len(first)
    assert one(database, "select status from runs") == ["FINISHED"] * 2
    changed = ("prune.rounds=2",)
    trained(store, *changed, trackers=open_trackers([f"mlflow:{uri}"], "tiny", Store.open(store)))
    second = metrics(database)
    assert len(second) == 2 * 5 * 5
    assert set(first) < set(second)
    told(store, make_plan(tiny(*changed), Store.existing(store)),
         open_trackers([f"mlflow:{uri}"], "tiny", Store.open(store))[0])  # fmt: skip
    assert metrics(database) == second
    assert one(database, "select name from experiments where experiment_id != 0") == ["tiny"]
    assert sorted(one(database, "select value from params where key = 'prune.scope'")) == [
        "global",
        "layerwise",
    ]
    assert one(database, "select value from params where key = 'seed'") == ["0", "0"]
    assert sorted(one(database, "select name from runs")) == [
        "scope=global, seed 0",
        "scope=layerwise, seed 0",
    ]
    plan = make_plan(tiny(*changed), Store.existing(store))
    records = Store.existing(store).records(plan.rounds)
    shown = {row[:3]: row[3] for row in second}
    for lineage in plan.lineages:
        for round in lineage.rounds:
            series = "" if round.control == "ticket" else f"{round.control}/"
            value = shown[lineage.id, f"{series}score", round.index]
            assert value == records[round.key].result["score"]


def test_two_drivers_of_one_sweep_tell_mlflow_the_same_once(done, plan, tmp_path):
    """Neither knows what the other told after it had looked."""
    words, store = [f"mlflow:sqlite:///{tmp_path}/m.db"], Store.existing(done)
    [mine], [theirs] = open_trackers(words, "tiny", store), open_trackers(words, "tiny", store)
    [lineage, _] = plan.lineages
    steps = [Step(number, 1e9 + number, {"score": number / 7}) for number in range(3)]
    mine.tell(lineage, steps[:1], complete=False)
    theirs.tell(lineage, steps[:1], complete=False)
    mine.tell(lineage, steps[1:], complete=True)
    theirs.tell(lineage, steps, complete=True)
    shown = metrics(tmp_path / "m.db")
    assert shown == [(lineage.id, "score", number, number / 7) for number in range(3)]
    assert one(tmp_path / "m.db", "select status from runs") == ["FINISHED"]


def test_mlflow_marks_a_run_that_was_cut_off(done, plan, tmp_path):
    [tracker] = open_trackers([f"mlflow:sqlite:///{tmp_path}/m.db"], "tiny", Store.existing(done))
    [lineage, _] = plan.lineages
    tracker.tell(lineage, [Step(0, time.time(), {"score": 0.5})], complete=False)
    assert one(tmp_path / "m.db", "select status from runs") == ["RUNNING"]
    tracker.close()
    assert one(tmp_path / "m.db", "select status from runs") == ["KILLED"]


def test_an_mlflow_that_is_not_installed_is_told_with_the_command(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"mlflow is not installed; pip install 'raylottery\[ml"):
        open_trackers(["mlflow"], "tiny", Store.existing(done))


def test_an_mlflow_that_does_not_answer_is_refused_within_seconds(done):
    begun = time.monotonic()
    with pytest.raises(NotFoundError) as refused:
        open_trackers(["mlflow:http://me:secret@127.0.0.1:1"], "tiny", Store.existing(done))
    assert time.monotonic() - begun < 10
    assert "http://127.0.0.1:1 does not answer" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_command_tells_trackers_of_a_sweep_that_is_done(done, tmp_path, capsys):
    """It trains nothing; what was trained before is told all the same."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    words = ["run", str(file), "--store", str(done), "--inline", "--json"]
    words += [word for change in SHORT for word in ("--set", change)]
    assert main([*words, "--track", f"tensorboard:{tmp_path}/events"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rounds_trained"] == 0
    assert found["tracked"] == [{"tracker": "tensorboard", "rounds": 6, "error": None}]
    assert len(curves(tmp_path / "events")) == 2
