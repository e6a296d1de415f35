"""Who trains a round now, so that nobody else does meanwhile.

The holder of a lease writes who it is, and counts on in the file every few seconds. Others see
that it is gone: at once if it was a process of this very machine that no longer lives, else when
the count has stood still for a while on their own monotonic clock. Clocks of two machines are
never compared.

Leases of one round form a chain. The first is `lease.json`; the one that takes over from a stale
lease is `takeovers/<token of the stale one>.json`. Both are created exclusively and tokens are
never used twice, so a stale lease has one successor, however many see that it is stale. The last
of the chain holds the round. Releasing removes `lease.json` and thereby the chain; takeovers stay,
as a count. A lease that cannot be read is a lease that stands still.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType

from raylottery.errors import Damaged, RaylotteryError
from raylottery.store import layout
from raylottery.store.damage import refuse_newer
from raylottery.store.files import Files
from raylottery.store.holder import Holder


log = logging.getLogger(__name__)


@dataclass(eq=False)
class Lease:
    """A round that this process may train; release it, or use it as a context manager."""

    key: str
    holder: Holder
    path: str
    leases: Leases = field(repr=False)

    @property
    def attempt(self) -> int:
        """1, and one more for each before that failed, was given up, or set aside once done."""
        return self.holder.attempt

    def begin_anew(self) -> None:
        """Counts one attempt more: what was done before turned out to be damaged."""
        with _heart.changed:
            self.holder = replace(self.holder, attempt=self.holder.attempt + 1)

    def is_held(self) -> bool:
        """Whether nobody took over, having seen this lease stand still for too long."""
        holder = self.leases.holder(self.key)
        return holder is not None and holder.token == self.holder.token

    def count_on(self) -> None:
        """Shows that the holder lives."""
        self.holder = replace(self.holder, counter=self.holder.counter + 1)
        self.leases.files.write(self.path, self.holder.to_bytes())

    def release(self) -> None:
        """Gives the round free; does nothing if it is free, or another's by now."""
        with _heart.changed:
            if _heart.drop(self) and self.is_held():
                self.leases.files.delete(layout.lease(self.key))

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_seen: dict[str, tuple[int, float]] = {}
"""By token: the count of each lease that this process looked at, and since when it stands."""


class Leases:
    """The leases of a store, as this process sees them."""

    def __init__(
        self,
        files: Files,
        *,
        patience: float = 30.0,
        beat: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.files = files
        self.patience = patience
        self.beat = beat
        self._clock = clock

    def acquire(self, key: str) -> Lease | None:
        """The lease of a round, or None while someone else holds it."""
        held = self.holder(key)
        if held is None:
            path = layout.lease(key)
        elif self._is_stale(held):
            path = layout.takeover(key, held.token)
        else:
            return None
        attempt = self.attempt(key) + (held is not None)
        holder = Holder.this_process(attempt)
        if not self.files.create_exclusive(path, holder.to_bytes()):
            return None
        lease = Lease(key, holder, path, self)
        if not lease.is_held():  # the one it took over from was released meanwhile after all
            self.files.delete(path)
            return None
        _heart.hold(lease)
        return lease

    def attempt(self, key: str) -> int:
        """The number of the attempt under way, or of the next: 1 if none came to nothing."""
        folders = (layout.failures(key), layout.takeovers(key), layout.set_asides(key))
        return 1 + sum(len(self.files.list(folder)) for folder in folders)

    def holder(self, key: str) -> Holder | None:
        """Who holds a round, alive or not: the end of the chain."""
        chain: dict[str, Holder] = {}
        path = layout.lease(key)
        while True:
            try:
                data = self.files.read(path)
            except FileNotFoundError:
                return next(reversed(chain.values()), None)
            except Damaged:
                data = b""
            if b'"schema"' in data:
                refuse_newer(data, self.files.where(path))
            holder = Holder.from_bytes(data)
            if holder.token in chain:  # a copy, or cut short as the one before: no ring of leases
                holder = Holder.unknown(path.encode() + data)
            chain[holder.token] = holder
            path = layout.takeover(key, holder.token)

    def is_held(self, key: str) -> bool:
        """Whether someone holds a round who is not known to be gone."""
        holder = self.holder(key)
        return holder is not None and not self._is_stale(holder)

    def living(self, keys: Iterable[str]) -> set[str]:
        """The rounds whose holders count on while they are watched."""
        found = ((key, self.holder(key)) for key in keys)
        waiting = {key: one for key, one in found if one is not None and not one.is_dead()}
        alive = set()
        until = time.monotonic() + self.patience
        while waiting and time.monotonic() < until:
            time.sleep(min(0.5, self.beat))
            for key, before in list(waiting.items()):
                if (now := self.holder(key)) != before:
                    del waiting[key]
                    if now is not None:
                        alive.add(key)
        return alive

    def _is_stale(self, holder: Holder) -> bool:
        if holder.is_dead():
            return True
        now = self._clock()
        counter, since = _seen.get(holder.token, (None, now))
        if counter != holder.counter:
            since = now
        _seen[holder.token] = (holder.counter, since)
        return now - since >= self.patience


class _Heart:
    """One thread that counts on for every lease of this process; it ends when none is held."""

    def __init__(self):
        self.changed = threading.Condition()
        self._due: dict[Lease, float] = {}
        self._thread: threading.Thread | None = None

    def hold(self, lease: Lease) -> None:
        with self.changed:
            self._due[lease] = time.monotonic() + lease.leases.beat
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
            self.changed.notify()

    def drop(self, lease: Lease) -> bool:
        """Stops counting for a lease; whether it was held."""
        with self.changed:
            self.changed.notify()
            return self._due.pop(lease, None) is not None

    def _run(self) -> None:
        with self.changed:
            while self._due:
                for lease in [lease for lease, at in self._due.items() if at <= time.monotonic()]:
                    self._beat(lease)
                if self._due:
                    self.changed.wait(max(0.0, min(self._due.values()) - time.monotonic()))
            self._thread = None

    def _beat(self, lease: Lease) -> None:
        try:
            if not lease.is_held():
                log.warning("the lease of round %s was taken over", lease.key[:12])
                self.drop(lease)
                return
            lease.count_on()
        except (OSError, RaylotteryError) as error:
            log.warning("the lease of round %s could not be renewed: %s", lease.key[:12], error)
        self._due[lease] = time.monotonic() + lease.leases.beat


_heart = _Heart()
os.register_at_fork(after_in_child=_heart.__init__)  # a child holds none of its parent's leases
