"""Looks for everything in a store's rounds and snapshots that is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from raylottery.errors import Damaged, NewerStore
from raylottery.store import layout
from raylottery.store.rounds import Store, in_parallel


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was written, or that only others can read."""

    message: str
    path: str
    mend: Literal["set aside", "remove", "upgrade"]
    """What becomes of it: a round is set aside and trained again, any other file is removed, and
    what a newer raylottery wrote is left alone."""
    key: str = ""
    """Of the round that is to be set aside."""

    def __str__(self) -> str:
        return self.message


def check(store: Store) -> Iterator[Problem]:
    """Everything in the store that is not as it was written, sweeps aside."""
    for shelf in store.files.list(layout.ROUNDS):
        keys = filter(layout.is_key, store.files.list(f"{layout.ROUNDS}/{shelf}"))
        for problems in in_parallel(lambda key: [*_of_round(store, key)], keys):
            yield from problems
    for shelf in store.files.list(layout.SNAPSHOTS):
        for name in store.files.list(f"{layout.SNAPSHOTS}/{shelf}"):
            yield from _of_sealed(store, f"{layout.SNAPSHOTS}/{shelf}/{name}")


def _of_round(store: Store, key: str) -> Iterator[Problem]:
    try:
        lost = store.loss(key)
    except NewerStore as error:
        yield Problem(str(error), layout.record(key), "upgrade")
        return
    if lost is not None:
        yield Problem(str(lost), layout.record(key), "set aside", key)
    yield from _of_sealed(store, layout.aside(key))
    for path in store.failure_paths(key):
        try:
            store.failure(path)
        except Damaged as error:
            yield Problem(str(error), path, "remove")


def _of_sealed(store: Store, path: str) -> Iterator[Problem]:
    try:
        store.sealed(path)
    except Damaged as error:
        yield Problem(str(error), path, "remove")
