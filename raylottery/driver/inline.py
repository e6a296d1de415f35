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
    on_start: Callable[[Lineage], None],
    on_signal: Callable[[Lineage, dict], None],
    on_tick: Callable[[], None],
) -> None:
    """Train what the queue hands out until it is drained."""
    while not queue.drained:
        lineage = queue.next()
        if lineage is None:
            on_tick()
            time.sleep(0.1)  # what is left is another driver's by now, or waits to be tried again
            continue
        on_start(lineage)
        signals = train(task_of(lineage))
        while True:
            try:
                signal = next(signals, None)
            except Exception as error:  # noqa: BLE001 (noted by the trial; the queue tries again)
                signal = {"event": "broken", "error": str(error) or type(error).__name__}
            if signal is None:
                break
            on_signal(lineage, signal)
            on_tick()
