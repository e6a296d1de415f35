"""Which lineage is trained next.

A lineage is ready when nobody is training its next round. Among those that are ready the one
whose next round most others wait for comes first: so the dense networks of all seeds are trained
at once, each by one lineage, and no worker waits for another's while there is other work. When a
lineage meets a round leased by another driver it steps back, and those that need this round wait
until it is done or given up there. In the same way a lineage that broke off steps back, and is
handed out again after a while, as often as the sweep says.

A trial may train several lineages: they are handed out together, none of which waits for another.
One that broke off before is handed out alone, so that what breaks a worker takes no other with it
a second time.

Nothing here goes through all lineages, but for the start: sweeps may have a hundred thousand.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from heapq import heappop, heappush, heapreplace
from itertools import count

from raylottery.driver.plan import Plan
from raylottery.driver.resources import kind
from raylottery.errors import StoreError
from raylottery.spec import Lineage


LOOK_AFTER_S = 1.0
LOOK_AT_MOST_EVERY_S = 10.0
BACK_OFF_AT_MOST_S = 60.0

Look = Callable[[str], str]
"""Says of a round that someone else was training whether it is `done`, `held` or `free` by now."""


class WorkQueue:
    """The unfinished lineages of a plan."""

    def __init__(
        self,
        plan: Plan,
        look: Look,
        only: Iterable[str] | None = None,
        retries: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._look = look
        self._retries = retries
        self._clock = clock
        only = None if only is None else set(only)
        self._lineages = {
            lineage.id: lineage for lineage in plan.lineages if only is None or lineage.id in only
        }
        self._left = {
            id: [round.key for round in plan.unfinished(lineage)]
            for id, lineage in self._lineages.items()
        }
        self._needing: dict[str, list[str]] = defaultdict(list)
        """By round, the lineages that have it left."""
        self._places = count()
        self._waiting: dict[str, int] = {}
        """By lineage that waits, its place: of equals the first comes first."""
        self._ahead: dict[str, set[str]] = defaultdict(set)
        """By round, the waiting lineages whose next it is."""
        self._running: dict[str, int] = {}
        """By lineage that is handed out, the place it had."""
        self._claims: Counter[str] = Counter()
        """By round, how many running lineages have it left."""
        self._ready: dict[str, set[str]] = defaultdict(set)
        """By what is asked for, the rounds that some lineage waits to train, and may."""
        self._held: dict[str, tuple[float, float]] = {}
        """Rounds that someone else trains, or that are tried again: when to look next, and how
        long is waited until then."""
        self._retried: Counter[str] = Counter()
        """How often each lineage was put back after it broke."""
        requests = {line.arm.id: kind(line.arm.study) for line in self._lineages.values()}
        self._request = {id: requests[line.arm.id] for id, line in self._lineages.items()}
        self._lines: dict[str, list[tuple[int, int, str]]] = {
            name: [] for name in requests.values()
        }
        """By what is asked for, a heap of who may be next: minus how many want its round, its
        place, the lineage.

        Every lineage that is ready stands in one, with no fewer than want its round now. Others
        do not matter: what is out of date is mended or dropped when it comes to the front.
        """
        self._failed_keys: set[str] = set()
        self.doomed: list[Lineage] = []
        """Lineages given up unstarted, because a round they share failed in another."""
        self.stopped = False
        """Set to hand out nothing more."""
        for id, keys in self._left.items():
            for key in keys:
                self._needing[key].append(id)
            if keys:
                self._waiting[id] = next(self._places)
                self._ahead[keys[0]].add(id)
        for key in list(self._ahead):
            self._line_up(key)

    def lineages(self) -> list[Lineage]:
        """Those that are neither done nor handed out."""
        return [self._lineages[id] for id in self._waiting]

    def next(self, wanted: Callable[[Lineage], bool] = lambda lineage: True) -> Lineage | None:
        """A lineage to start now, one that is `wanted`.

        None if there is none: all is handed out, or must wait for what is running. `wanted` is
        asked of one lineage, and answers for all that ask for the same resources.
        """
        if self.stopped:
            return None
        self._look_at_the_held()
        fronts = [line[0] for line in self._lines.values() if self._settled(line)]
        ready = [front for front in fronts if wanted(self._lineages[front[2]])]
        if not ready:
            return None
        return self._hand_out(min(ready)[2])

    def take(
        self,
        share: Callable[[Lineage, int], int],
        wanted: Callable[[Lineage], bool] = lambda lineage: True,
    ) -> list[Lineage]:
        """The next lineage, and those to be trained in its trial: of what is ready, and asks for
        the same, its `share`.

        `share` is told that lineage, and how many rounds are ready, its own included.
        """
        first = self.next(wanted)
        if first is None:
            return []
        members = [first]
        if not self._retried[first.id]:
            request = self._request[first.id]
            line, size = self._lines[request], share(first, 1 + len(self._ready[request]))
            while len(members) < size and self._settled(line) and not self._retried[line[0][2]]:
                members.append(self._hand_out(line[0][2]))
        return members

    def _hand_out(self, id: str) -> Lineage:
        self._running[id] = self._leave(id)
        self._claims.update(self._left[id])
        for key in self._left[id]:
            self._shut(key)
        return self._lineages[id]

    def _shut(self, key: str) -> None:
        """A round is none that may be trained now."""
        for ready in self._ready.values():
            ready.discard(key)

    def _settled(self, line: list[tuple[int, int, str]]) -> bool:
        """Whether anybody in a line is ready; who is first of them stands at its front then."""
        while line:
            wants, place, id = line[0]
            if self._waiting.get(id) != place or self._is_taken(self._left[id][0]):
                heappop(line)  # gone, or it lines up again when its round is free
                continue
            now = -len(self._ahead[self._left[id][0]])
            if wants == now:
                return True
            heapreplace(line, (now, place, id))
        return False

    def _is_taken(self, key: str) -> bool:
        """Whether someone trains a round, or will soon, here or elsewhere."""
        return self._claims[key] > 0 or key in self._held

    def left(self, lineage: Lineage) -> tuple[str, ...]:
        """The rounds of a lineage that are not done, as far as the queue knows."""
        return tuple(self._left[lineage.id])

    @property
    def drained(self) -> bool:
        """Whether nothing is running and nothing will be handed out any more."""
        return not self._running and (self.stopped or not self._waiting)

    def round_done(self, key: str) -> None:
        """A round was committed: nobody has to train it any more."""
        self._held.pop(key, None)
        self._claims.pop(key, None)
        self._shut(key)
        for id in self._needing.pop(key, ()):
            self._left[id].remove(key)
        following = set()
        for id in self._ahead.pop(key, ()):
            if keys := self._left[id]:
                self._ahead[keys[0]].add(id)
                following.add(keys[0])
            else:
                del self._waiting[id]
        for key in following:
            self._line_up(key)

    def finished(self, lineage: Lineage) -> None:
        """A lineage ended, whether it got to its last round or was told to stop."""
        if lineage.id in self._running:
            del self._running[lineage.id]
            self._claims.subtract(self._left[lineage.id])
            for key in self._left[lineage.id]:
                self._line_up(key)

    def busy(self, lineage: Lineage) -> None:
        """A lineage stepped back from a round that someone else is training."""
        self._put_back(lineage, LOOK_AFTER_S, next(self._places))

    def unbegun(self, lineage: Lineage) -> None:
        """Nobody began to train a lineage that was handed out: it waits again, as before."""
        place = self._running[lineage.id]
        self.finished(lineage)
        if keys := self._left[lineage.id]:
            self._waiting[lineage.id] = place
            self._ahead[keys[0]].add(lineage.id)
            self._line_up(keys[0])

    def retried(self, lineage: Lineage) -> float | None:
        """A lineage broke off: after how many seconds it is tried again, None if no more.

        It keeps its place, so that of those that share its round it is the one that tries again.
        """
        if self._retried[lineage.id] >= self._retries:
            return None
        pause = min(2.0 ** self._retried[lineage.id], BACK_OFF_AT_MOST_S)
        self._retried[lineage.id] += 1
        self._put_back(lineage, pause, self._running[lineage.id])
        return pause

    def _put_back(self, lineage: Lineage, pause: float, place: int) -> None:
        """A running lineage waits again; its round is looked at after a pause."""
        self.finished(lineage)
        if keys := self._left[lineage.id]:
            self._held[keys[0]] = (self._clock() + pause, LOOK_AFTER_S)
            self._shut(keys[0])
            self._waiting[lineage.id] = place
            self._ahead[keys[0]].add(lineage.id)

    def failed(self, lineage: Lineage, key: str | None) -> None:
        """A lineage failed for good; at a round, so does every other that needs that round."""
        if key is not None:
            self._failed_keys.add(key)
            self._line_up(key)
        self.finished(lineage)

    def _line_up(self, key: str) -> None:
        """The lineages whose next round this is may go on, or, if it failed, are given up."""
        waiting = self._ahead.get(key, set())
        if key in self._failed_keys:
            for id in sorted(waiting, key=self._waiting.__getitem__):
                self._leave(id)
                self.doomed.append(self._lineages[id])
        taken = self._is_taken(key)
        for id in waiting:
            heappush(self._lines[self._request[id]], (-len(waiting), self._waiting[id], id))
            if not taken:
                self._ready[self._request[id]].add(key)

    def _leave(self, id: str) -> int:
        """A lineage waits no more; the place it had."""
        place = self._waiting.pop(id)
        key = self._left[id][0]
        self._ahead[key].remove(id)
        if not self._ahead[key]:
            del self._ahead[key]
            self._shut(key)
        return place

    def _look_at_the_held(self) -> None:
        """See, less and less often, whether what is held is done, or may be trained by now."""
        now = self._clock()
        for key, (due, wait) in list(self._held.items()):
            if due > now:
                continue
            try:
                found = self._look(key)
            except (OSError, StoreError):
                found = "free"  # a store that does not answer: whoever tries it is told
            match found:
                case "held":
                    longer = min(2 * wait, LOOK_AT_MOST_EVERY_S)
                    self._held[key] = (now + longer, longer)
                case "done":
                    self.round_done(key)
                case "free":
                    del self._held[key]
                    self._line_up(key)
