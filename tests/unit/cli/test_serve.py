"""`status --serve`: what it answers, whom it refuses, and how seldom it looks."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse

import pytest

from raylottery.cli import main, serve
from raylottery.driver.gather import Gatherer
from raylottery.driver.live import Letter, Live, post
from raylottery.driver.plan import make_plan
from raylottery.driver.stored import Standing, standing
from raylottery.errors import StoreError, UsageError
from raylottery.spec import parse_sweep
from raylottery.store import Store


SWEEP = """
name: tiny
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1]
axes:
  prune.scope: [global, layerwise]
"""
ROUNDS = 12


@pytest.fixture
def store(tmp_path) -> Store:
    """A sweep of which nothing is trained yet."""
    opened = Store.open(tmp_path / "store")
    Gatherer(make_plan(parse_sweep(SWEEP), opened), opened).open()
    return opened


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Looks are due at once, however long the last one took."""
    monkeypatch.setattr(serve, "LOOK_S", 0.0)
    monkeypatch.setattr(serve, "SHARE", float("inf"))


@contextmanager
def served(store: Store, look=None) -> Generator[int]:
    """A server of the sweep, and its port."""
    server = serve.listening(
        "tiny", store.files, look or (lambda: (standing("tiny", store), ())), 0
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(port: int, path: str = "/", *, method: str = "GET", **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    return connection.getresponse()


def state(port: int) -> dict:
    return json.loads(ask(port, "/state").read())


def test_it_listens_on_the_loopback_alone(store):
    server = serve.listening("tiny", store.files, lambda: (standing("tiny", store), ()), 0)
    with server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_the_page_is_sent_whole_once_and_not_again_while_it_is_the_same(store):
    with served(store) as port:
        whole = ask(port)
        assert (whole.status, whole.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
        assert b"No round of tiny is finished yet." in whole.read()
        assert whole.getheader("Content-Security-Policy") == "frame-ancestors 'none'"
        tag = whole.getheader("ETag")
        assert tag is not None
        same = ask(port, If_None_Match=tag)
        assert (same.status, same.read()) == (304, b"")
        assert ask(port, If_None_Match='"another"').status == 200
        head = ask(port, method="HEAD")
        assert (head.status, head.read()) == (200, b"")
        assert head.getheader("Content-Length") == whole.getheader("Content-Length")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9", "LOCALHOST:8787"])
def test_this_machine_may_ask_by_its_own_names(store, host):
    with served(store) as port:
        assert ask(port, "/state", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:8787", "127.0.0.1.example", "", "localhost:a"]
)
@pytest.mark.parametrize("path", ["/", "/state", "/none"])
def test_another_host_is_refused_and_nothing_is_read_for_it(store, host, path):
    def look():
        raise AssertionError

    with served(store, look) as port:
        answer = ask(port, path, Host=host)
        assert (answer.status, b"127.0.0.1" in answer.read()) == (403, True)


def test_two_hosts_or_none_are_refused(store):
    with served(store) as port:
        for hosts in (b"", b"Host: localhost\r\nHost: rebound.example\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
                raw.sendall(b"GET / HTTP/1.0\r\n" + hosts + b"\r\n")
                assert b" 403 " in raw.makefile("rb").readline()


@pytest.mark.parametrize("path", ["/state/", "/../etc/passwd", "/report.html"])
def test_there_is_nothing_else(store, path):
    with served(store) as port:
        assert ask(port, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_done_there(store, method):
    with served(store) as port:
        assert ask(port, "/", method=method).status == 501


def test_all_tabs_together_look_once_in_a_while_and_nobody_looks_unasked(store, monkeypatch):
    monkeypatch.setattr(serve, "LOOK_S", 60.0)
    looks = []

    def look():
        looks.append(1)
        return standing("tiny", store), ()

    with served(store, look) as port:
        time.sleep(0.1)
        assert looks == []
        tabs = [threading.Thread(target=state, args=(port,)) for _ in range(8)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
        assert looks == [1]
        assert 50 < state(port)["due_s"] <= 60


def test_what_takes_long_is_looked_for_more_seldom(monkeypatch):
    monkeypatch.setattr(serve, "SHARE", 0.1)
    slow = serve.Paced(lambda before: time.sleep(0.1))
    begun = time.monotonic()
    slow()
    assert slow.due - begun >= 0.1 + 0.1 / 0.1


def test_trouble_is_told_beside_what_was_seen_before_and_passes(store):
    trouble = []

    def look():
        if trouble:
            raise trouble[0]
        return standing("tiny", store), ()

    with served(store, look) as port:
        assert (state(port)["rounds"], state(port)["lines"]) == ("0 of 12 rounds", [])
        for error, text in (
            (StoreError("the store is gone"), "the store is gone"),
            (KeyError("seed"), "KeyError: 'seed'"),
        ):
            trouble[:] = [error]
            told = state(port)
            assert (told["rounds"], told["lines"]) == ("0 of 12 rounds", [["wrong", text]])
        trouble.clear()
        assert state(port)["lines"] == []


def test_a_damaged_table_is_told_beside_how_the_sweep_stands(store):
    store.files.write("sweeps/tiny/rounds.parquet", b"junk")
    with served(store) as port:
        assert ask(port).status == 200
        [[kind, text]] = state(port)["lines"]
        assert (kind, "rounds.parquet" in text) == ("wrong", True)


# What the strip says


def now(store: Store, *, done: int = 0, **changes) -> Standing:
    found = standing("tiny", store)
    keys = list(found.plan.rounds)
    return replace(found, plan=replace(found.plan, done=frozenset(keys[:done])), **changes)


def test_it_says_what_runs_and_for_how_long(store):
    run = Live.this_process("tiny", "0123456789ab", "a local Ray")
    began = run.began.replace("20", "19", 1)  # a century ago
    gone = replace(run, began=began, at=began, trained=1, holder=replace(run.holder, host="far"))
    said = serve.stands(now(store, done=5, runs=[gone, replace(run, trained=2)]), ())
    assert (said.word, said.under_way, said.planned, said.left) == ("Running", True, ROUNDS, "")
    assert 5 <= said.done < ROUNDS
    (first, lost), (second, lives) = said.lines
    assert (first, second) == ("wrong", "note")
    assert lost.startswith("a local Ray on far: last heard of ")
    assert lost.endswith(" ago, after 1 round; it may be gone")
    assert lives == f"a local Ray on {run.holder.host}: 2 rounds in 0 s"


def test_it_says_what_waits_and_what_was_refused(store):
    post(store, Letter(job="one", sweep="tiny", address="http://head:8265", at="2026"))
    said = serve.stands(standing("tiny", store), ())
    assert (said.word, said.under_way) == ("Waiting", True)
    assert said.lines == (("note", "job one was submitted to http://head:8265 and has not begun"),)
    letter = Letter(job="one", sweep="tiny", address="a", at="2026", refused="no such machine")
    said = serve.stands(now(store, waiting=[letter]), ())
    assert (said.word, said.under_way) == ("Nothing runs", False)
    assert said.lines == (("wrong", "job one ended at once: no such machine"),)


def test_it_says_when_all_is_done(store):
    said = serve.stands(now(store, done=ROUNDS), ())
    assert (said.word, said.kind, said.done, said.lines) == ("Finished", "done", ROUNDS, ())


def test_it_says_the_first_errors_and_counts_the_others(store):
    found = standing("tiny", store)
    first = {line.rounds[0].key for line in found.plan.lineages}
    failures = {key: [{"first_line": "the loss is no number"}] for key in first}
    said = serve.stands(replace(found, plan=replace(found.plan, failures=failures)), ())
    assert said.lines == (
        ("wrong", "scope=global, seed 0 failed: the loss is no number"),
        ("wrong", "scope=layerwise, seed 0 failed: the loss is no number"),
        ("wrong", "scope=global, seed 1 failed: the loss is no number"),
        ("wrong", "1 more failed: `raylottery logs tiny --failed`"),
    )


# The command


def test_a_port_that_is_taken_is_passed_over_unless_it_was_asked_for(store, monkeypatch):
    def listen(port):
        return serve.listening("tiny", store.files, lambda: (standing("tiny", store), ()), port)

    with listen(0) as other:
        taken = other.server_address[1]
        with pytest.raises(UsageError, match=f"cannot listen at port {taken} .* in use"):
            listen(taken)
        monkeypatch.setattr(serve, "PORTS", [taken, 0])
        with listen(None) as free:
            assert free.server_address[1] != taken
        monkeypatch.setattr(serve, "PORTS", [taken])
        with pytest.raises(UsageError, match=f"any port from {taken} .* --port"):
            listen(None)
    with pytest.raises(UsageError, match="0-65535"):
        listen(70000)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ("tiny --serve --json", 2, ("--serve", "--json", "give one")),
        ("tiny --serve --watch", 2, ("--serve", "--watch", "give one")),
        ("tiny --port 9000", 2, ("--port", "--serve")),
        ("tinny --serve", 3, ("no sweep 'tinny'", "Did you mean 'tiny'?")),
    ],
)
def test_what_cannot_be_meant_is_refused(store, capsys, words, code, parts):
    assert main(["status", *words.split(), "--store", store.uri]) == code
    said = capsys.readouterr()
    assert (said.out, [part for part in parts if part not in said.err]) == ("", [])


@pytest.mark.parametrize("asked", ["/state", "/"])
def test_an_interrupt_ends_the_page_and_says_nothing(store, asked):
    process = subprocess.Popen(
        [sys.executable, "-m", "raylottery", "status", "tiny", "--serve", "--port", "0",
         "--store", store.uri],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        place, *rest = process.stdout.readline().split(maxsplit=1)
        assert rest == ["(Ctrl-C ends the page, not the sweep)\n"]
        port = int(place.rpartition(":")[2])
        assert state(port)["word"] == "Nothing runs"
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(f"GET {asked} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (130, "", "")
    finally:
        process.kill()
        process.wait()
