"""Runs a plan in this very process: the same queue, trials and tables as on Ray, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from raylottery.driver.queue import WorkQueue
from raylottery.driver.trial import Task, train
from raylottery.spec import Lineage


def run_inline(
    queue: WorkQueue,
    task_of: Callable[[Lineage], Task],
    retries: int,
    on_start: Callable[[Lineage], None],
    on_signal: Callable[[Lineage, dict], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out until it is drained."""
    while not queue.drained:
        lineage = queue.next()
        if lineage is None:
            on_tick()
            time.sleep(0.1)  # only rounds that another driver is training are left
            continue
        on_start(lineage)
        for attempt in range(1 + retries):
            try:
                for signal in train(task_of(lineage)):
                    on_signal(lineage, signal)
                    on_tick()
                break
            except Exception as error:  # noqa: BLE001 (noted by the trial; the last one is told)
                if attempt == retries:
                    on_signal(lineage, {"event": "failed", "error": str(error)})
