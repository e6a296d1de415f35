"""What every Python process of a story loads first, and tells of the rounds it trains.

The processes run the real command. Here they are only watched (which round begins, which is
committed), made to give up on a silent lease within seconds, and, in some stories, misled about
the time.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any


EVENTS = os.environ.get("FAULTS_EVENTS")
CLOCK = os.environ.get("FAULTS_CLOCK")
PATIENCE_S, BEAT_S = 5.0, 0.5


def tell(verb: str, key: str) -> None:
    """A datagram, not a file: files may be just what a story makes impossible."""
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),  # nobody listens any more
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line,
    ):
        line.sendto(f"{verb} {key} {os.getpid()}".encode(), EVENTS or "")


def watch_store(module: Any) -> None:
    patience = module.Store.__init__.__kwdefaults__
    if patience.keys() < {"patience", "beat"}:
        raise RuntimeError("the store has no patience any more that a story could shorten")
    patience.update(patience=PATIENCE_S, beat=BEAT_S)
    commit = module.Store.commit

    def told(self, round, **more):
        record = commit(self, round, **more)
        tell("commit", round.key)
        return record

    module.Store.commit = told


def watch_lineage(module: Any) -> None:
    begin = module.begin

    def told(round, *more):
        start = begin(round, *more)  # where the round that it stands on is lost, none begins
        tell("begin", round.key)
        return start

    module.begin = told


WATCHED: dict[str, Callable[[Any], None]] = {
    "raylottery.store.rounds": watch_store,
    "raylottery.lineage": watch_lineage,
}


class Finder(importlib.abc.MetaPathFinder):
    """Finds our modules as Python would, and changes what is to be watched once it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None):
        if not name.startswith("raylottery."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def loaded(module: Any) -> None:
            load(module)
            WATCHED.get(name, lambda module: None)(module)
            if CLOCK and getattr(module, "datetime", None) is datetime:
                module.datetime = Shifted

        spec.loader.exec_module = loaded
        return spec


# A wall clock that jumps. Ours alone get another `datetime`: what is compiled with the real one,
# such as pandas, could not bear that.

BEGAN, right_time = time.monotonic(), time.time


def wrong_time() -> float:
    after, hours = map(float, (CLOCK or "").split(":"))
    return right_time() + (3600 * hours if time.monotonic() - BEGAN > after else 0.0)


class Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class Shifted(datetime, metaclass=Kind):
    """Makes ordinary times, of a wrong now."""

    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def fromisoformat(cls, text):
        return datetime.fromisoformat(text)


if EVENTS:
    sys.meta_path.insert(0, Finder())
if CLOCK:
    clock: Any = time
    clock.time = wrong_time
    clock.time_ns = lambda: int(1e9 * wrong_time())
