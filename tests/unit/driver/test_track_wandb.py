"""Weights & Biases: the real client against a server of this file's own, and offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb

from raylottery.cli import main
from raylottery.driver import track_wandb
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.track import Step, open_trackers
from raylottery.driver.track_wandb import WandB, short
from raylottery.errors import UsageError
from raylottery.store import Store
from tests.e2e.conftest import TINY
from tests.unit.driver.test_track import tiny, told, trained


KEY = "0123456789" * 4
MORE = ("prune.rounds=2",)


class Server:
    """As much of a W&B server as a run needs: it keeps what is written and says where it ended."""

    def __init__(self):
        self.rows: dict[str, dict[int, dict]] = {}
        self.about: dict[str, dict] = {}
        self.summary: dict[str, str] = {}
        self.ends: dict[str, list[int]] = {}
        self.away = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format, *args) -> None: ...

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
                answer: dict = {}
                if not server.away and stream:
                    server.stream(stream[1], **json.loads(sent))
                elif not server.away and self.path == "/graphql":
                    answer = {"data": server.asked(**json.loads(sent))}
                data = json.dumps(answer).encode()
                self.send_response(503 if server.away else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_PUT(self) -> None:
                self.do_POST()

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request, client_address) -> None:
                """The client hangs up when it likes."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def stream(self, run: str, files: dict | None = None, **more) -> None:
        for name, chunk in (files or {}).items():
            if name == "wandb-history.jsonl":
                for number, line in enumerate(chunk["content"], chunk["offset"]):
                    self.rows[run][number] = json.loads(line)
            if name == "wandb-summary.json":
                self.summary[run] = chunk["content"][-1]
        if more.get("complete"):
            self.ends.setdefault(run, []).append(more["exitcode"])

    def asked(self, query: str, variables: dict | None = None, **_) -> dict:
        variables = variables or {}
        if "viewer" in query:
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}"}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": self.url} for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        project = {"id": "1", "name": "tiny", "entity": {"id": "1", "name": "me"}}
        name = variables.get("name", "")
        if "upsertBucket" in query:
            self.rows.setdefault(name, {})
            given = {key: value for key, value in variables.items() if value is not None}
            self.about[name] = self.about.get(name, {}) | given
            bucket = {"id": name, "name": name, "displayName": name, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "RunResumeStatus" in query and name in self.rows:
            rows = self.rows[name]
            last = [json.dumps(rows[max(rows)])] if rows else []
            project["bucket"] = {
                "id": name,
                "name": name,
                "displayName": name,
                "summaryMetrics": self.summary.get(name, "{}"),
                "historyLineCount": len(rows),
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": json.dumps(last),
                "eventsTail": "[]",
                "config": self.about[name]["config"],
                "wandbConfig": '{"t": 1}',
            }
            return {"model": project}
        return {}

    def shown(self) -> list[tuple]:
        """All that was logged, by lineage, round and name, sorted."""
        return sorted(
            (run, row["round"], name, value)
            for run, rows in self.rows.items()
            for row in rows.values()
            for name, value in row.items()
            if name != "round" and not name.startswith("_")
        )


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch, server) -> Iterator[Path]:
    """W&B's folder; the wandb of the person who runs the tests is neither read nor written."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setattr(sys, "exit", sys.exit)  # wandb wraps the two, and leaves them so
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield tmp_path / "wandb"
    wandb.teardown()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The store of two lineages of a dense round, and two tickets with a control each. Without
    `MORE`, the sweep has only the first half of them."""
    folder = tmp_path_factory.mktemp("done")
    trained(folder, *MORE)
    return folder


def show(store: Path, *changes: str) -> None:
    """A store, told to a W&B that is opened for it and left again."""
    plan = make_plan(tiny(*changes), Store.existing(store))
    tracking = told(store, plan, opened(store))
    assert tracking.feeds[0].error is None


def opened(store: Path, word: str = "wandb") -> WandB:
    [tracker] = open_trackers([word], "tiny", Store.existing(store))
    assert isinstance(tracker, WandB)
    return tracker


def expected(store: Path, plan: Plan) -> list[tuple]:
    records = Store.existing(store).records(plan.rounds)
    names = ("score", "density", "train_score", "loss")
    return sorted(
        (line.id, r.index, ("" if r.control == "ticket" else f"{r.control}/") + name, value)
        for line in plan.lineages
        for r in line.rounds
        for name, value in [
            *((name, records[r.key].result[name]) for name in names),
            ("seconds", records[r.key].seconds),
        ]
    )


def left(folder: Path) -> list[Path]:
    """Files that hold the key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_run_for_each_lineage_goes_on_and_is_told_nothing_twice(server, done, tmp_path, capfd):
    plan = make_plan(tiny(*MORE), Store.existing(done))
    show(done)
    first = server.shown()
    assert {number for _, number, *_ in first} == {0, 1}
    show(done, *MORE)
    assert server.shown() == expected(done, plan)
    show(done, *MORE)
    assert server.shown() == expected(done, plan)
    for line in plan.lineages:
        about = server.about[line.id]
        assert (about["project"], about["groupName"]) == ("tiny", line.arm.label)
        assert about["displayName"] == f"{line.arm.label}, seed 0"
        config = json.loads(about["config"])
        assert config["prune.scope"]["value"] == line.arm.study.prune.scope
        assert config["seed"]["value"] == 0
        assert set(server.ends[line.id]) == {0}
    assert not left(tmp_path)
    assert not left(done)
    assert capfd.readouterr() == ("", "")
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("wandb", "NetStat"))]


def test_controls_of_old_rounds_come_later_and_a_run_that_was_cut_off_goes_on(server, done):
    lineage, *_ = make_plan(tiny(), Store.existing(done)).lineages
    tracker = opened(done)
    tracker.tell(lineage, [Step(n, n, {"score": n / 8}) for n in range(3)], complete=False)
    tracker.close()
    assert server.ends == {lineage.id: [255]}
    tracker = opened(done)
    tracker.tell(lineage, [Step(1, 9, {"reinit/score": 0.75})], complete=False)
    tracker.tell(lineage, [Step(3, 9, {"score": 0.5})], complete=True)
    tracker.close()
    assert server.ends == {lineage.id: [255, 0]}
    assert [row[1:] for row in server.shown()] == [
        (0, "score", 0.0),
        (1, "reinit/score", 0.75),
        (1, "score", 0.125),
        (2, "score", 0.25),
        (3, "score", 0.5),
    ]
    assert "me/tiny" in tracker.look


def test_of_many_runs_only_some_are_open(server, done, monkeypatch):
    monkeypatch.setattr(track_wandb, "MOST", 1)
    mine, theirs = make_plan(tiny(), Store.existing(done)).lineages
    tracker = opened(done)
    for number in range(2):
        for lineage in (mine, theirs):
            tracker.tell(lineage, [Step(number, 0, {"score": 0.5})], complete=False)
            assert len(tracker.open) == 1
    tracker.close()
    assert [row[:2] for row in server.shown()] == sorted(
        (lineage.id, number) for lineage in (mine, theirs) for number in range(2)
    )


def test_a_server_that_goes_away_is_told_all_of_it_when_it_is_back(server, done, monkeypatch):
    monkeypatch.setitem(track_wandb.PATIENCE, "finish_timeout", 1)
    monkeypatch.setitem(track_wandb.PATIENCE, "init_timeout", 1)
    lineage, *_ = make_plan(tiny(), Store.existing(done)).lineages
    tracker = opened(done)
    tracker.tell(lineage, [Step(0, 0, {"score": 0.0})], complete=False)
    server.away = True
    steps = [Step(1, 1, {"score": 1.0})]
    with pytest.raises(TimeoutError):
        tracker.tell(lineage, steps, complete=True)
    with pytest.raises(wandb.Error):
        tracker.tell(lineage, steps, complete=True)
    server.away = False
    tracker.tell(lineage, steps, complete=True)
    tracker.close()
    assert server.shown() == [(lineage.id, 0, "score", 0.0), (lineage.id, 1, "score", 1.0)]


def test_offline_runs_are_read_by_wandb_sync_each_round_once(
    server, done, environment, monkeypatch, tmp_path
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY")
    for changes in ((), (), MORE, MORE):
        show(done, *changes)
    assert len(list(environment.glob("offline-run-*/*.wandb"))) == 4
    assert not server.rows
    words = [sys.executable, "-m", "wandb", "sync", "--yes", environment]
    online = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    subprocess.run(words, env=online, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    plan = make_plan(tiny(*MORE), Store.existing(done))
    assert server.shown() == expected(done, plan)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "online")
    show(done, *MORE)
    assert server.shown() == expected(done, plan)


def test_an_offline_run_is_written_once_also_where_it_is_cut_off(environment, done, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    lineage, *_ = make_plan(tiny(), Store.existing(done)).lineages
    tracker = opened(done, "wandb:us/study")
    assert tracker.look == f"wandb sync {environment}"
    for number in range(3):
        tracker.tell(lineage, [Step(number, 0, {"score": 0.5})], complete=False)
    assert not list(environment.glob("offline-run-*"))
    tracker.close()
    assert len(list(environment.glob("offline-run-*"))) == 1
    assert (environment / "raylottery/us/study" / lineage.id).read_text() == "0 1 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"WANDB_API_KEY": ""}, "there is no key for http://127.0.0.1:"),
        ({"WANDB_API_KEY": "secret"}, "WANDB_API_KEY invalid"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:1"}, "connection refused"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_within_seconds(
    tmp_path, monkeypatch, capfd, change, message
):
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    file, begun = tmp_path / "tiny.yaml", time.monotonic()
    file.write_text(TINY)
    assert main(["run", str(file), "--store", str(tmp_path / "s"), "--track", "wandb"]) == 3
    assert time.monotonic() - begun < 10
    said = capfd.readouterr().err
    assert message in said
    assert "WANDB_MODE=offline" in said
    assert KEY not in said
    assert "secret" not in said
    assert not list((tmp_path / "s").rglob("record.json"))


@pytest.mark.parametrize(
    ("word", "mode", "message"),
    [
        ("wandb", "disabled", "WANDB_MODE=disabled is no mode for it; use online or offline"),
        ("wandb:a/b/c", "offline", "expected PROJECT or ENTITY/PROJECT"),
        ("wandb:../x", "offline", "expected PROJECT or ENTITY/PROJECT"),
    ],
)
def test_what_cannot_be_meant_is_refused(done, monkeypatch, word, mode, message):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UsageError) as refused:
        opened(done, word)
    assert message in str(refused.value)


def test_a_folder_that_cannot_be_made_is_refused(done, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", "/dev/null")
    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        opened(done)


def test_a_wandb_that_is_not_installed_is_told_with_the_command(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"wandb is not installed; pip install 'raylottery\[wan"):
        opened(done)


def test_a_long_name_is_cut_and_stays_its_own():
    assert short("scope=global", "0123456789ab") == "scope=global"
    cut = short("x" * 200, "0123456789ab")
    assert len(cut) == 128
    assert cut.endswith("x 0123456789ab")
