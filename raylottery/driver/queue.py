"""Which lineage is trained next.

A lineage is ready when nobody is training its next round. Among those that are ready the one
whose next round most others wait for comes first: so the dense networks of all seeds are trained
at once, each by one lineage, and no worker waits for another's while there is other work. A
lineage that meets a round leased by another driver steps back and is tried again later.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from raylottery.driver.plan import Plan
from raylottery.spec import Lineage


LOOK_AFTER_S = 1.0
LOOK_AT_MOST_EVERY_S = 10.0

Look = Callable[[str], str]
"""Says of a round that someone else was training whether it is `done`, `held` or `free` by now."""


class WorkQueue:
    """The unfinished lineages of a plan."""

    def __init__(
        self,
        plan: Plan,
        look: Look,
        only: Iterable[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._look = look
        self._clock = clock
        self._left = {
            lineage.id: [round.key for round in plan.unfinished(lineage)]
            for lineage in plan.lineages
            if only is None or lineage.id in only
        }
        self._lineages = {lineage.id: lineage for lineage in plan.lineages}
        self._waiting = [id for id, keys in self._left.items() if keys]
        self._running: dict[str, set[str]] = {}
        self._looks: dict[str, tuple[float, float]] = {}
        self._failed_keys: set[str] = set()
        self.doomed: list[Lineage] = []
        """Lineages given up unstarted, because a round they share failed in another."""
        self.stopped = False
        """Set to hand out nothing more."""

    def next(self) -> Lineage | None:
        """A lineage to start now, or None: all is handed out, or must wait for what is running."""
        if self.stopped:
            return None
        self._look_at_the_busy()
        self._give_up_doomed()
        claimed = set().union(*self._running.values())
        ready = [
            id
            for id in self._waiting
            if self._left[id][0] not in claimed and id not in self._looks
        ]
        if not ready:
            return None
        wanted = Counter(self._left[id][0] for id in self._waiting)
        chosen = max(ready, key=lambda id: wanted[self._left[id][0]])
        self._waiting.remove(chosen)
        self._running[chosen] = set(self._left[chosen])
        return self._lineages[chosen]

    def left(self, lineage: Lineage) -> tuple[str, ...]:
        """The rounds of a lineage that are not done, as far as the queue knows."""
        return tuple(self._left[lineage.id])

    @property
    def drained(self) -> bool:
        """Whether nothing is running and nothing will be handed out any more."""
        return not self._running and (self.stopped or not self._waiting)

    def round_done(self, key: str) -> None:
        """A round was committed: nobody has to train it any more."""
        for keys in self._left.values():
            if key in keys:
                keys.remove(key)
        for claims in self._running.values():
            claims.discard(key)
        self._waiting = [id for id in self._waiting if self._left[id]]

    def finished(self, lineage: Lineage) -> None:
        """A lineage ended, whether it got to its last round or was told to stop."""
        self._running.pop(lineage.id, None)

    def busy(self, lineage: Lineage) -> None:
        """A lineage stepped back from a round that someone else is training."""
        self.finished(lineage)
        if self._left[lineage.id]:
            self._waiting.append(lineage.id)
            self._looks[lineage.id] = (self._clock() + LOOK_AFTER_S, LOOK_AFTER_S)

    def failed(self, lineage: Lineage, key: str | None) -> None:
        """A lineage failed for good; at a round, so does every other that needs that round."""
        self.finished(lineage)
        if key is not None:
            self._failed_keys.add(key)

    def _look_at_the_busy(self) -> None:
        """See, less and less often, whether what others were training is done or given up."""
        now = self._clock()
        for id, (due, wait) in list(self._looks.items()):
            if not self._left[id]:
                del self._looks[id]
            elif due <= now:
                key = self._left[id][0]
                match self._look(key):
                    case "held":
                        longer = min(2 * wait, LOOK_AT_MOST_EVERY_S)
                        self._looks[id] = (now + longer, longer)
                    case "done":
                        self.round_done(key)
                    case "free":
                        del self._looks[id]

    def _give_up_doomed(self) -> None:
        doomed = [id for id in self._waiting if self._left[id][0] in self._failed_keys]
        self._waiting = [id for id in self._waiting if id not in set(doomed)]
        self.doomed += [self._lineages[id] for id in doomed]
