"""Keeps a trial within the memory that it asked for.

The kernel refuses what this process would take beyond it (RLIMIT_DATA): what asks for too much
fails where it asks, and neither its machine nor the trials beside it do. The limit counts from
what the process had at its first such trial, when Python, Ray and torch were loaded, so that each
trial of a worker finds the same, whatever was trained there before. It covers the process itself,
not those that it starts (an agent's remote runners and learners), and no memory of a GPU.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from raylottery.errors import TrainingError
from raylottery.spec import Memory


BOUNDED = sys.platform == "linux"
"""Whether this machine can bound a process at all."""
REFUSED = re.compile(r"(can't|cannot) allocate memory|not enough memory|bad_alloc", re.IGNORECASE)
"""How libraries that have no MemoryError of their own say it: torch's allocator, C++."""


class OutOfMemory(TrainingError):
    """A trial took more memory than it asked for: the same would happen again."""


@contextmanager
def bounded(asked: Memory | None) -> Generator[None]:
    """Within it, this process takes no more than `asked`; OutOfMemory if it would have to."""
    if asked is None or not BOUNDED:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = taken_at_first() + asked.amount
    given = [limit for limit in before if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([most, *given]), before[1]))
    try:
        with told_of_memory(asked):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def told_of_memory(asked: Memory | None) -> Generator[None]:
    """Says of a refusal, in any thread of a process that is bounded, what it was asked for."""
    try:
        yield
    except Exception as error:
        if asked is None or not BOUNDED or not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory: the trial asked for {asked} (resources.memory); ask for more or "
            f"train smaller batches"
        ) from error


@cache
def taken_at_first() -> int:
    """What this process had when it was asked first, in the bytes that RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmData:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, says that memory was refused."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and REFUSED.search(str(error)):
            return True
        error = error.__cause__
    return False
