"""Many stories, some at a time, each in a process that keeps what stories share."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.util import Finalize
from pathlib import Path

from tests.faults.play import Outcome, play
from tests.faults.stage import Workshop
from tests.faults.stories import Story


COLUMNS = ("stories", "kills", "rounds lost", "at most", "finished ones trained again",
           "rows that differ", "rows twice", "unsound", "seconds")  # fmt: skip

shop: Workshop
ended = threading.Event()


def open_shop() -> None:
    """In each process that tells stories; it is closed when the process ends."""
    global shop
    shop = Workshop()
    shop.__enter__()
    Finalize(shop, shop.__exit__, exitpriority=10)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()


def end(number: int, frame: object) -> None:
    """The story under way clears up, and none is begun any more."""
    ended.set()
    sys.exit(128 + number)


def end_with_parent() -> None:
    """Clear up even if who asked for the stories was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def tell(story: Story) -> Outcome:
    if ended.is_set():
        raise InterruptedError("stories were told to end")
    return play(story, shop)


@contextmanager
def tellers(at_a_time: int) -> Generator[ProcessPoolExecutor]:
    """Processes that can `tell`."""
    with ProcessPoolExecutor(at_a_time, get_context("spawn"), initializer=open_shop) as pool:
        try:
            yield pool
        except BaseException:
            for process in active_children():  # a pool lets them tell what it handed out
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def tell_all(left: Iterable[Story], at_a_time: int) -> Iterator[Outcome]:
    """Outcomes as they come."""
    with tellers(at_a_time) as pool:
        telling: list[Future[Outcome]] = [pool.submit(tell, story) for story in left]
        for future in as_completed(telling):
            yield future.result()


def told(file: Path | None) -> dict[int, Outcome]:
    """The outcomes in a file, by seed; a last line that was cut off does not count."""
    if file is None or not file.exists():
        return {}
    lines = file.read_text().splitlines(keepends=True)
    whole = [Outcome(**json.loads(line)) for line in lines if line.endswith("\n")]
    return {outcome.seed: outcome for outcome in whole}


def table(outcomes: Iterable[Outcome]) -> str:
    """A row a kind of disturbance: a story with two kinds counts for both, and once in all."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        for kind in sorted(set(outcome.kinds) - set(outcome.missed)):
            groups[kind].append(outcome)
        groups[f"all {outcome.place}"].append(outcome)
        groups["all"].append(outcome)
    lines = [f"| disturbance | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for kind in sorted(groups, key=lambda kind: (kind.startswith("all"), kind)):
        told = groups[kind]
        sums = (
            len(told),
            *(sum(getattr(each, name) for each in told)
              for name in ("kills", "lost", "may_lose", "again", "differing", "duplicate")),
            sum(not each.sound for each in told),
            round(sum(each.seconds for each in told)),
        )  # fmt: skip
        lines.append(f"| {kind} | {' | '.join(map(str, sums))} |")
    return "\n".join(lines) + "\n"
