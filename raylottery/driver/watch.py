"""What a run tells whoever watches it, and what it comes to in the end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from raylottery.driver.plan import Plan
from raylottery.spec import Lineage


class Watcher(Protocol):
    """Shows a run as it goes; the command line has one for terminals and one for pipes."""

    def opened(self, plan: Plan, seats: int, place: str) -> None:
        """The run begins: `seats` lineages at a time, at `place`."""
        ...

    def started(self, lineage: Lineage) -> None: ...

    def trained(self, lineage: Lineage, key: str) -> None:
        """A round was committed."""
        ...

    def ended(self, lineage: Lineage, event: str, error: str | None) -> None:
        """A lineage ended: `done`, `stopped`, `busy`, `again` (it is tried again) or `failed`."""
        ...

    def stopping(self) -> None:
        """The user asked to stop: running rounds are finished, nothing more is started."""
        ...

    def tick(self) -> None:
        """Called a few times a second."""
        ...


@dataclass
class Ledger:
    """How the workers' time was spent, from the signals of the trials.

    A worker's time runs from the start of its first lineage to the end of the run's last, waits
    included, its own first import of torch left out; one that trains lineages side by side has as
    much on each of its threads. Nothing of it lies before the first worker is up, which takes as
    long as Ray needs to start.
    """

    began: float = field(default_factory=time.time)
    trained: set[str] = field(default_factory=set)
    rounds: int = 0
    """Trainings; more than `trained` where a round was lost and trained again."""
    training_s: float = 0.0
    import_s: dict[str, float] = field(default_factory=dict)
    """By worker."""
    up: float = math.inf
    """When the first worker was."""
    spans: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """By worker and thread."""

    def read(self, signal: Mapping) -> None:
        worker, thread = signal["worker"], signal["thread"]
        began, now = signal["began"] + signal["import_s"], signal["now"]
        first, last = self.spans.get((worker, thread), (began, now))
        self.spans[worker, thread] = (min(first, began), max(last, now))
        self.up = min(self.up, signal["began"])
        self.import_s.setdefault(worker, signal["import_s"])
        if signal["event"] == "round":
            self.training_s += signal["seconds"]
            self.trained.add(signal["key"])
            self.rounds += 1

    @property
    def startup_s(self) -> float:
        """From the run's beginning until the first worker was up."""
        return self.up - self.began if self.spans else 0.0

    @property
    def worker_s(self) -> float:
        end = max((last for _, last in self.spans.values()), default=0.0)
        return sum(end - first for first, _ in self.spans.values())

    @property
    def overhead_s(self) -> float:
        """Worker time outside training, for each round that was trained."""
        return (self.worker_s - self.training_s) / self.rounds if self.rounds else 0.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    plan: Plan
    """As the store stands after it."""
    ledger: Ledger
    seconds: float
    interrupted: bool
    missing: int
    """Rounds that trials said are done and the store does not have."""
    failures: dict[str, str]
    """The first line of what went wrong, by lineage."""

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if self.failures or self.missing else 0
