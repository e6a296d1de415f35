"""Runs a plan in this very process: the same queue, trials and tables as on Ray, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from raylottery.driver.cohort import Cohort, Members, Shares, first_line, train_cohort
from raylottery.driver.queue import WorkQueue
from raylottery.spec import Lineage


def run_inline(
    queue: WorkQueue,
    shares: Shares,
    cohort_of: Callable[[Sequence[Lineage]], Cohort],
    on_signal: Callable[[Lineage, Mapping], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out until it is drained."""
    while not queue.drained:
        lineages = queue.take(shares)
        if not lineages:
            on_tick()
            time.sleep(0.1)  # what is left is another driver's by now, or waits to be tried again
            continue
        members, broken = Members(lineages), ""
        with closing(train_cohort(cohort_of(lineages))) as said:
            while True:
                try:
                    news = next(said, None)
                except Exception as error:  # noqa: BLE001 (told below; the queue tries again)
                    news, broken = None, first_line(error)
                if news is None:
                    break
                for signal in news:
                    on_signal(members.says(signal), signal)
                on_tick()
        for lineage, signal in members.lost(broken):
            on_signal(lineage, signal)
