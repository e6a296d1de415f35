"""Handing in a sweep: what is refused before a job exists, and what the job is made of."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from raylottery import __version__
from raylottery.cli.progress import Diary
from raylottery.driver import jobs as handing_in
from raylottery.driver import live
from raylottery.driver.jobs import Job, Jobs, shared, submit, trackable
from raylottery.driver.live import JOB, Letter
from raylottery.driver.parcel import pack, pins
from raylottery.driver.run import run
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import parse_sweep, read_sweep
from raylottery.store import Store, layout
from tests.e2e.conftest import TINY


ODD = "it's a folder"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Ray's variables as they were, and no patience with runs of other machines."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", JOB):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(live, "SILENCE_S", 0.6)


@pytest.fixture
def dashboard() -> Iterator[Any]:
    """A server that answers like a dashboard, as far as it is told to."""
    told = SimpleNamespace(status=200, body={"ray_version": "2.3.4"})

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(told.status)
            self.end_headers()
            self.wfile.write(json.dumps(told.body).encode())

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    told.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


class Taking:
    """A cluster that takes every job, and says of them what the test wants."""

    address = "http://127.0.0.1:8265"

    def __init__(self):
        import ray

        self.ray_version = ray.__version__
        self.known: list[Job] = []
        self.taken: list[dict] = []
        self.client = self

    def of(self, sweep: str, store: Store) -> list[Job]:
        return self.known

    def submit_job(self, **words) -> None:
        folder = words["runtime_env"].pop("working_dir")
        self.taken.append({**words, "files": sorted(os.listdir(folder)),
                           "sweep": read_sweep(f"{folder}/sweep.yaml")})  # fmt: skip


@pytest.fixture
def taking() -> Any:
    return Taking()


def sweep():
    return parse_sweep(TINY)


def finish(store) -> None:
    """Train all of it, small as it is."""
    short = ("trainer.length=1ep", "prune.rounds=1", "axes={}", "controls=[]", "seeds=[0]")
    small = parse_sweep(TINY, overrides=short)
    run(small, Store.open(store), Diary(say=lambda line: None), inline=True)


# Whether anybody is there


@pytest.mark.parametrize("address", ["h:8265", "ray://h:10001", "http://", "auto", "http://h:x"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(UsageError, match="http://HOST:8265"):
        Jobs(address)


def test_nobody_there_is_found_out_in_seconds(raylottery, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        file = tmp_path / "tiny.yaml"
        file.write_text(TINY)
        began = time.monotonic()
        done = raylottery("submit", file, "--address", address, "--store", tmp_path / "s")
    assert time.monotonic() - began < 10
    assert (done.returncode, done.stdout) == (3, "")
    assert f"no Ray dashboard answers at {address}" in done.stderr
    assert not (tmp_path / "s").exists()


def test_somebody_who_listens_and_never_answers_is_found_out_in_seconds():
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        with pytest.raises(NotFoundError, match="no Ray dashboard answers"):
            Jobs(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, {}, "no Ray dashboard answers"),
        (200, {"hello": "world"}, "no Ray dashboard answers"),
        (401, {}, "asks for a token"),
        (403, {}, "asks for a token"),
    ],
)
def test_what_is_no_dashboard_or_wants_a_token_is_told_apart(dashboard, status, body, said):
    dashboard.status, dashboard.body = status, body
    with pytest.raises(NotFoundError, match=said):
        Jobs(dashboard.address)


def test_another_ray_is_named(dashboard, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # which Ray would prefer
    jobs = Jobs(dashboard.address)
    assert jobs.ray_version == "2.3.4"
    with pytest.raises(UsageError, match=r"runs Ray 2\.3\.4, and here is Ray 2\."):
        submit(sweep(), str(tmp_path), jobs)
    assert list(tmp_path.iterdir()) == []


# Stores


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265"])
def test_a_folder_is_good_where_the_head_is_this_machine(address):
    assert shared("./results", address) == "./results"


def test_a_folder_that_only_this_machine_has_is_refused_and_another_place_named(tmp_path):
    with pytest.raises(UsageError, match="the head is another one") as refused:
        shared(str(tmp_path / ODD), "http://192.0.2.7:8265")
    assert (tmp_path / ODD).as_uri() in str(refused.value)


@pytest.mark.parametrize("store", ["s3://bucket/folder", "file:///mnt/shared", "gs://b/f"])
def test_a_uri_is_taken_at_its_word(store):
    assert shared(store, "http://192.0.2.7:8265") == store


def test_a_password_in_the_uri_is_refused_and_not_repeated():
    with pytest.raises(UsageError, match="in their environment") as refused:
        shared("s3://me:secret@bucket/folder", "http://192.0.2.7:8265")
    assert "secret" not in str(refused.value)


def test_a_job_tracks_where_it_can():
    words = ["tensorboard", "mlflow:http://me@host:5000", "wandb:team/project"]
    assert trackable(words, "/mnt/shared/results") == words
    assert trackable(["tensorboard:/logs"], "s3://bucket/folder") == ["tensorboard:/logs"]


def test_a_job_tracks_to_the_server_of_this_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    assert trackable(["mlflow"], "/mnt/results") == ["mlflow:https://host"]


@pytest.mark.parametrize(
    ("word", "mend"),
    [
        ("tensorboard", "--track tensorboard:/mnt/shared/logs"),
        ("tensorboard:logs", "--track tensorboard:/mnt/shared/logs"),
        ("mlflow", "--track mlflow:http://HOST:5000"),
        ("mlflow:sqlite:///mlflow.db", "--track mlflow:http://HOST:5000"),
        ("mlflow:http://me:secret@host", "MLFLOW_TRACKING_PASSWORD"),
        ("tensorbord", "tensorboard"),
    ],
)
def test_what_a_job_cannot_track_is_refused(word, mend, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError) as refused:
        trackable([word], "s3://bucket/folder")
    assert mend in str(refused.value)
    assert "secret" not in str(refused.value)


# The job


def test_a_job_gets_the_sweep_as_resolved_and_nothing_secret(taking, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-sent")
    store = tmp_path / ODD
    changed = parse_sweep(TINY, overrides=("seeds=[7]",))
    done = submit(changed, str(store), taking, options=["--max-concurrent", "3"])
    [job] = taking.taken
    assert done.job == job["submission_id"]
    assert job["files"] == ["sweep.yaml"]
    assert job["sweep"] == changed
    assert job["entrypoint"].startswith("python -m raylottery run sweep.yaml --store '")
    assert job["entrypoint"].endswith("--address auto --max-concurrent 3")
    assert job["metadata"] == {"raylottery_sweep": "tiny", "raylottery_store": str(store)}
    assert job["runtime_env"]["env_vars"][JOB] == done.job
    assert "never-sent" not in str(job)
    [letter] = live.letters(Store.existing(store), "tiny")
    assert (letter.job, letter.address) == (done.job, taking.address)
    assert not (store / "rounds").exists()


def test_until_it_begins_the_store_says_that_it_waits(taking, raylottery, tmp_path):
    done = submit(sweep(), str(tmp_path), taking)
    shown = raylottery("status", "tiny", "--store", tmp_path)
    assert shown.returncode == 0
    assert f"job {done.job} was submitted to {taking.address}" in shown.stdout
    assert "0 of 18 distinct rounds done" in shown.stdout
    cancelled = raylottery("cancel", "tiny", "--store", tmp_path)
    assert f"job {done.job}: had not begun, and will not" in cancelled.stdout
    assert live.letters(Store.existing(tmp_path), "tiny") == []


def test_a_finished_sweep_is_not_submitted_and_another_study_of_its_name_is_refused(
    taking, tmp_path
):
    file = layout.sweep_file("tiny")
    finish(tmp_path)
    finished = read_sweep(tmp_path / file)
    assert submit(finished, str(tmp_path), taking).job is None
    assert taking.taken == []
    other = parse_sweep(TINY, overrides=("trainer.lr=0.5",))
    with pytest.raises(UsageError, match="--replace"):
        submit(other, str(tmp_path), taking)
    submit(other, str(tmp_path), taking, replace=True)
    assert taking.taken[0]["entrypoint"].endswith(" --replace")


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_sweep_whose_job_lives_is_refused_by_name(taking, tmp_path, status):
    taking.known = [Job("raylottery-tiny-1", status, "", None)]
    with pytest.raises(UsageError, match="tiny is running already") as refused:
        submit(sweep(), str(tmp_path), taking)
    assert "raylottery-tiny-1" in str(refused.value)
    assert "raylottery cancel tiny --store" in str(refused.value)


def test_a_sweep_that_runs_without_a_job_is_refused_too(taking, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "BEAT_S", 0.1)
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    store = Store.open(tmp_path)
    mine = live.Live.this_process("tiny", "0" * 12, "this process")
    with (
        live.Pulse(store.files, mine, lambda: 0, lambda how: None),
        pytest.raises(UsageError, match="run 000000000000 on"),
    ):
        submit(sweep(), str(tmp_path), taking)


def test_a_job_that_ended_before_it_read_its_letter_is_in_nobodys_way(taking, tmp_path):
    store = Store.open(tmp_path)
    old = Letter(job="raylottery-tiny-1", sweep="tiny", address=taking.address, at=live.now())
    live.post(store, old)
    taking.known = [Job(old.job, "FAILED", "", 1)]
    done = submit(sweep(), str(tmp_path), taking)
    assert [letter.job for letter in live.letters(store, "tiny")] == [done.job]


def test_a_job_that_waits_on_another_cluster_is_in_the_way(taking, tmp_path):
    other = Letter(job="raylottery-tiny-1", sweep="tiny", address="http://o:1", at=live.now())
    live.post(Store.open(tmp_path), other)
    with pytest.raises(UsageError, match="job raylottery-tiny-1"):
        submit(sweep(), str(tmp_path), taking)


def test_where_the_cluster_takes_no_job_nothing_waits(taking, tmp_path):
    def broken(**words):
        raise RuntimeError("Request failed with status code 500: no space left\nTraceback ...")

    taking.submit_job = broken
    with pytest.raises(NotFoundError, match="no space left"):
        submit(sweep(), str(tmp_path), taking)
    assert live.letters(Store.existing(tmp_path), "tiny") == []


# What travels


def test_image_sends_the_sweep_alone(tmp_path):
    pack(tmp_path, sweep(), "image")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_wheel_sends_this_raylottery_and_it_is_found_first(tmp_path):
    pack(tmp_path, sweep(), "wheel")
    assert not list(tmp_path.rglob("__pycache__"))
    code = "import raylottery; print(raylottery.__file__)"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert told.stdout.strip() == str(tmp_path / "raylottery" / "__init__.py")


def test_uv_sends_a_sound_wheel_and_the_versions_of_this_environment(tmp_path):
    import tomllib

    pack(tmp_path, sweep(), "uv")
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as parts:
        assert parts.testzip() is None
        about = f"raylottery-{__version__}.dist-info"
        record = parts.read(f"{about}/RECORD").decode().splitlines()
        assert len(record) == len(parts.namelist())
        assert "Requires-Dist: ray" in parts.read(f"{about}/METADATA").decode()
        assert "raylottery.__main__:main" in parts.read(f"{about}/entry_points.txt").decode()
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["sources"]["raylottery"]["path"] == wheel.name
    assert project["tool"]["uv"]["constraint-dependencies"] == pins()
    import ray

    assert f"ray=={ray.__version__}" in pins()
    assert not any("+" in pin or pin.startswith("raylottery") for pin in pins())


def test_each_of_them_starts_as_it_must():
    assert handing_in.python("image") == handing_in.python("wheel") == ["python"]
    assert handing_in.python("uv")[:2] == ["uv", "run"]
    assert handing_in.variables("uv") == {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"}
    assert layout.letter("tiny", "raylottery-tiny-1") == "sweeps/tiny/jobs/raylottery-tiny-1.json"
