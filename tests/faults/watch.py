"""What became of each finished round: from its record's bytes, and from what was begun again."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

from raylottery.store import Store, layout
from tests.faults.stage import Ear


class Watch:
    """Remembers the record of each round as it was first seen."""

    EVERY_S = 0.1

    def __init__(self, store: Store, ear: Ear):
        self.store = store
        self.ear = ear
        self.first: dict[str, str] = {}
        self.changed: set[str] = set()
        """Rounds whose record vanished or changed although it was whole."""
        self.looking = threading.RLock()
        """Held by whoever makes the store unreadable for a while."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self.EVERY_S):
            with self.looking:
                for key in self.finished() - self.first.keys():
                    if (now := self.hash(key)) is not None:
                        self.first[key] = now

    def hash(self, key: str) -> str | None:
        try:
            return hashlib.sha256(self.store.files.read(layout.record(key))).hexdigest()
        except FileNotFoundError:
            return None

    def look_again(self) -> None:
        with self.looking:
            self.changed |= {key for key, was in self.first.items() if self.hash(key) != was}

    def excuse(self, *keys: str) -> None:
        """These rounds are about to be damaged, and may be trained again."""
        with self.looking, self.ear.news:
            self.ear.events += [("damage", key, 0) for key in keys]
            for key in keys:
                self.first.pop(key, None)

    def finished(self) -> set[str]:
        found: set[str] = set()
        for verb, key, _ in list(self.ear.events):
            if verb != "begin":
                (found.add if verb == "commit" else found.discard)(key)
        return found

    def counts(self) -> tuple[int, int]:
        """Unfinished rounds that were begun again; finished ones that were, or whose record is
        another."""
        finished: set[str] = set()
        begun: Counter[str] = Counter()
        lost, again = 0, set(self.changed)
        for verb, key, _ in self.ear.events:
            if verb == "begin" and key in finished:
                again.add(key)
            elif verb == "begin":
                lost += begun[key] > 0
                begun[key] += 1
            else:
                begun[key] = 0
                (finished.add if verb == "commit" else finished.discard)(key)
        return lost, len(again)
