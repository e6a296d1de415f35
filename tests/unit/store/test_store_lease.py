"""One process trains a round at a time, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raylottery.errors import NewerStore
from raylottery.store import Store, layout
from raylottery.store.holder import Holder
from raylottery.store.lease import Lease, Leases
from raylottery.store.local import LocalFiles


KEY = "0123456789abcdef" * 2
ELSEWHERE = Holder(
    token="f" * 32,
    host="elsewhere",
    boot="b",
    namespace="n",
    pid=1,
    started="1",
    attempt=1,
    counter=7,
)


class Clock:
    """A monotonic clock that goes when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def take(leases: Leases, key: str = KEY) -> Lease:
    """The lease of a round that is free to take."""
    lease = leases.acquire(key)
    assert lease is not None
    return lease


def holder_of(leases: Leases, key: str = KEY) -> Holder:
    holder = leases.holder(key)
    assert holder is not None
    return holder


def put(files, **changes) -> Holder:
    """Leaves the lease of a process on another machine, or whatever `changes` say."""
    holder = replace(ELSEWHERE, **changes)
    files.write(layout.lease(KEY), holder.to_bytes())
    return holder


def dead_process() -> Holder:
    """The lease of a process of this machine that has ended."""
    code = "from raylottery.store.holder import Holder; print(Holder.this_process(1).to_bytes())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return Holder.from_bytes(eval(ran.stdout))


def test_one_holds_and_the_next_comes_after_release(files):
    leases = Leases(files)
    other = Leases(files)
    lease = leases.acquire(KEY)
    assert lease is not None
    assert lease.attempt == 1
    assert other.acquire(KEY) is None
    assert leases.acquire(KEY) is None
    with take(other, "1" * 32):
        assert lease.is_held()
    lease.release()
    again = other.acquire(KEY)
    assert again is not None
    assert again.attempt == 1
    lease.release()  # releasing twice takes nothing from the next holder
    assert again.is_held()
    again.release()
    assert leases.holder(KEY) is None


def test_a_lease_is_released_when_its_block_is_left_in_any_way(files):
    leases = Leases(files)
    lease = take(leases)

    def interrupted():
        with lease:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert leases.holder(KEY) is None


def test_a_lease_says_who_holds_it(local):
    with take(Leases(local)):
        said = json.loads(local.read(layout.lease(KEY)))
    assert set(said) == {
        *("token", "host", "boot", "namespace", "pid", "started", "attempt", "counter")
    }
    assert said["pid"] == os.getpid()
    assert said["counter"] == 0


def test_a_dead_process_of_this_machine_is_taken_over_from_at_once(files):
    files.write(layout.lease(KEY), dead_process().to_bytes())
    with take(Leases(files, patience=1e9)) as lease:
        assert lease.attempt == 2
        assert Leases(files).acquire(KEY) is None
    with take(Leases(files)) as lease:
        assert lease.attempt == 2


def test_a_process_number_used_again_is_not_the_holder(local):
    mine = Holder.this_process(1)
    local.write(layout.lease(KEY), replace(mine, started="1").to_bytes())
    with take(Leases(local, patience=1e9)) as lease:
        assert lease.attempt == 2


def test_a_zombie_is_dead():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    holder = replace(Holder.this_process(1), pid=child.pid, started=started)
    assert not holder.is_dead()
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_dead()
    child.wait()


@pytest.mark.parametrize("field", ["host", "boot", "namespace"])
def test_a_process_number_means_nothing_on_another_machine(local, field):
    gone = dead_process()
    assert gone.is_dead()
    assert not replace(gone, **{field: "another"}).is_dead()
    assert not replace(gone, **{field: ""}).is_dead()


def test_a_process_of_another_user_lives(monkeypatch):
    def forbidden(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not Holder.this_process(1).is_dead()


def test_a_silent_lease_is_taken_over_after_patience_on_the_observers_clock(files):
    put(files, token="a" * 32)
    clock = Clock()
    leases = Leases(files, patience=30, clock=clock)
    assert leases.acquire(KEY) is None
    clock.now += 29.9
    assert leases.acquire(KEY) is None
    put(files, token="a" * 32, counter=8)  # a sign of life starts the wait anew
    clock.now += 29.9
    assert leases.acquire(KEY) is None
    clock.now += 29.9
    assert leases.acquire(KEY) is None
    clock.now += 0.2
    lease = leases.acquire(KEY)
    assert lease is not None
    assert lease.attempt == 2
    assert leases.acquire(KEY) is None
    lease.release()


def test_what_was_seen_outlives_the_store_that_saw_it(local):
    put(local, token="b" * 32)
    clock = Clock()
    assert Leases(local, clock=clock).acquire(KEY) is None
    clock.now += 31
    lease = Leases(local, clock=clock).acquire(KEY)
    assert lease is not None
    lease.release()


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"token": "../../x"}', b'{"token": 3}'])
def test_a_lease_that_cannot_be_read_blocks_for_patience_only(local, data):
    local.write(layout.lease(KEY), data)
    clock = Clock()
    leases = Leases(local, clock=clock)
    assert leases.acquire(KEY) is None
    clock.now += 31
    with take(leases) as lease:
        assert lease.attempt == 2
        assert leases.acquire(KEY) is None


def test_many_observers_of_a_dead_holder_and_one_takes_over(local):
    start = threading.Barrier(6)
    won, gone = [], dead_process()

    def take(key: str):
        leases = Leases(LocalFiles(local.root), patience=1e9)
        start.wait()
        lease = leases.acquire(key)
        if lease is not None:
            won.append((key, lease))

    keys = [f"{turn:032x}" for turn in range(20)]
    for key in keys:
        local.write(layout.lease(key), gone.to_bytes())
        threads = [threading.Thread(target=take, args=(key,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [key for key, _ in won] == keys
    for _, lease in won:
        assert lease.attempt == 2
        lease.release()


def test_who_was_taken_over_from_counts_on_no_more_and_releases_nothing(local, caplog):
    slow = take(Leases(local, beat=0.02))
    clock = Clock()
    observer = Leases(local, patience=0, clock=clock)
    taken = observer.acquire(KEY)
    assert taken is not None
    deadline = time.monotonic() + 5
    while "taken over" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"the lease of round {KEY[:12]} was taken over" in caplog.text
    assert not slow.is_held()
    slow.release()
    assert taken.is_held()
    taken.release()
    assert observer.holder(KEY) is None


def test_releasing_a_lease_that_was_taken_over_frees_nothing(local):
    slow = take(Leases(local))
    taken = take(Leases(local, patience=0))
    slow.release()
    assert taken.is_held()
    assert Leases(local).acquire(KEY) is None
    taken.release()


def test_a_takeover_gives_way_if_the_holder_released_meanwhile(local, monkeypatch):
    slow = take(Leases(local))
    observer = Leases(local, patience=0)
    create = local.create_exclusive

    def late(path, data):
        slow.release()
        return create(path, data)

    monkeypatch.setattr(local, "create_exclusive", late)
    assert observer.acquire(KEY) is None
    monkeypatch.undo()
    with take(observer) as lease:
        assert lease.attempt == 1


def test_an_ended_chain_of_leases_cannot_be_continued(local, monkeypatch):
    """An observer that fell asleep before its takeover meets one that took over and is done."""
    put(local, token="c" * 32)
    asleep, quick = Leases(local, patience=0), Leases(local, patience=0)
    create = local.create_exclusive
    fresh = []

    def late(path, data):
        monkeypatch.undo()
        take(quick).release()
        fresh.append(take(quick))
        return create(path, data)

    monkeypatch.setattr(local, "create_exclusive", late)
    assert asleep.acquire(KEY) is None
    assert fresh[0].is_held()
    assert fresh[0].attempt == 2
    fresh[0].release()


def test_the_attempt_counts_failures_and_takeovers(local):
    store = Store(local, patience=0)
    note = {
        "sweep": "s",
        "lineage": KEY[:12],
        "control": "ticket",
        "round": 0,
        "error": "ValueError",
        "first_line": "no",
        "log": "sweeps/s/logs/x.log",
        "at": "2026-01-02T03:04:05+00:00",
    }
    attempts = []
    for turn in range(4):
        if turn == 2:
            put(local)
        lease = store.lease(KEY)
        assert lease is not None
        with lease:
            assert store.fail(KEY, note)["attempt"] == lease.attempt
            attempts.append(lease.attempt)
    assert attempts == [1, 2, 4, 5]


def test_one_thread_beats_for_all_leases_and_ends_with_the_last(local):
    def beating() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "leases"]

    leases = Leases(local, beat=0.02)
    held = [take(leases, f"{n:032x}") for n in range(3)]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if all(holder_of(leases, lease.key).counter >= 3 for lease in held):
            break
        time.sleep(0.01)
    assert all(holder_of(leases, lease.key).counter >= 3 for lease in held)
    [thread] = beating()
    assert thread.daemon
    for lease in held[:2]:
        lease.release()
    assert beating() == [thread]
    held[2].release()
    thread.join(timeout=5)
    assert beating() == []


def test_a_store_that_fails_for_a_moment_costs_no_lease(local, monkeypatch, caplog):
    leases = Leases(local, beat=0.02)
    lease = take(leases)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        deadline = time.monotonic() + 5
        while "could not be renewed" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "could not be renewed" in caplog.text
    before = holder_of(leases).counter
    while holder_of(leases).counter == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holder_of(leases).counter > before
    lease.release()


FORKED = """
import os, signal, sys, time
from raylottery.store.local import LocalFiles
from raylottery.store.lease import Leases
leases = Leases(LocalFiles(sys.argv[1]), beat=0.02)
parents, childs = "a" * 32, "c" * 32
lease = leases.acquire(parents)
child = os.fork()
if child == 0:
    signal.alarm(20)
    leases.acquire(childs)
    time.sleep(0.3)
    os._exit(0)
os.waitpid(child, 0)
rest = leases.holder(childs).counter
before = leases.holder(parents).counter
time.sleep(0.3)
print(rest, leases.holder(childs).counter, before, leases.holder(parents).counter, lease.is_held())
"""


def test_parent_and_forked_child_beat_each_for_its_own(local):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(local.root)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stderr == ""
    *counts, held = ran.stdout.split()
    childs, childs_later, parents, parents_later = map(int, counts)
    assert childs == childs_later > 0
    assert 0 < parents <= 16  # twice as many in this time if the child had beaten too
    assert parents_later > parents
    assert held == "True"


RACER = """
import sys
from raylottery.store.local import LocalFiles
from raylottery.store.lease import Leases
leases = Leases(LocalFiles(sys.argv[1]), patience=1e9)
print("ready", flush=True)
for turn in range(int(sys.stdin.readline())):
    lease = leases.acquire(f"{turn:032x}")
    print(int(lease is not None), flush=True)
    sys.stdin.readline()
"""


def test_of_two_processes_exactly_one_gets_each_lease(local):
    turns = 150
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(local.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]

    def say(text: str) -> None:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(text)
            racer.stdin.flush()

    def hear() -> list[str]:
        return [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]

    assert hear() == ["ready", "ready"]
    say(f"{turns}\n")
    winners = []
    for _ in range(turns):
        winners.append(hear())
        say("\n")
    for racer in racers:
        racer.communicate(timeout=20)
    assert all(sorted(pair) == ["0", "1"] for pair in winners)


RUINED = [b"", b"{", b"[" * 5000, b"\xff\xfe", b"[]", b'{"token": 1}', None]


@pytest.mark.parametrize("data", RUINED)
def test_a_lease_that_cannot_be_read_stands_still_and_is_taken_over(local, data):
    ruin(local, layout.lease(KEY), data)
    clock = Clock()
    leases = Leases(local, patience=30, clock=clock)
    assert leases.acquire(KEY) is None
    clock.now += 31
    with take(leases) as lease:
        assert lease.attempt == 2
        assert Leases(local).acquire(KEY) is None
    assert not local.exists(layout.lease(KEY))
    with take(leases):
        pass


def test_leases_that_name_each_other_end_somewhere(local):
    """A copy of a lease among the takeovers, and two that were cut short alike, are no ring."""
    for data in (put(local, token="a" * 32).to_bytes(), b""):
        token = Holder.from_bytes(data).token
        local.write(layout.lease(KEY), data)
        local.write(layout.takeover(KEY, token), data)
        clock = Clock()
        leases = Leases(local, patience=30, clock=clock)
        leases.acquire(KEY)
        clock.now += 31
        with take(leases):
            pass
        assert not local.exists(layout.lease(KEY))


def test_a_lease_of_a_newer_raylottery_is_refused_by_name(local):
    local.write(layout.lease(KEY), b'{"schema": 2}')
    with pytest.raises(NewerStore, match=r"lease.json was written by a newer raylottery"):
        Leases(local, patience=0).acquire(KEY)


def ruin(local, path: str, data: bytes | None) -> None:
    """Puts bytes at a place, or a folder."""
    if data is None:
        Path(local.where(path)).mkdir(parents=True)
    else:
        local.write(path, data)
