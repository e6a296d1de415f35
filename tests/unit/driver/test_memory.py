"""A trial takes no more memory than it asked for. Limits are put on processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from raylottery.driver.memory import BOUNDED, is_out_of_memory


linux = pytest.mark.skipif(not BOUNDED, reason="only Linux bounds a process")
HEAD = """
import resource
from pathlib import Path
import numpy as np
import pyarrow as pa
import torch
from raylottery.driver.memory import OutOfMemory, bounded
from raylottery.spec import Memory
before = resource.getrlimit(resource.RLIMIT_DATA)
"""


def alone(text: str) -> str:
    """What a program says."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(text)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux
@pytest.mark.parametrize(
    "takes",
    [
        "torch.ones(10**8)",
        "np.ones(10**8)",
        "bytearray(4 * 10**8)",
        "pa.allocate_buffer(4 * 10**8)",
        "[[0] * 100 for _ in range(10**6)]",
    ],
)
def test_what_takes_too_much_fails_with_the_mend_and_the_limit_is_put_back(takes):
    said = alone(f"""
    try:
        with bounded(Memory("200MB")):
            {takes}
    except OutOfMemory as error:
        print(error)
        print(type(error.__cause__).__name__)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with bounded(None):
        {takes}
    """)
    assert said.splitlines()[0] == (
        "out of memory: the trial asked for 200MB (resources.memory); ask for more or train "
        "smaller batches"
    )


@linux
def test_what_fits_is_let_and_what_was_kept_counts_for_the_next():
    """The limit counts from where the process first stood, not from where it stands now."""
    alone("""
    with bounded(Memory("600MB")):
        kept = torch.ones(10**8)
    try:
        with bounded(Memory("600MB")):
            torch.ones(10**8)
        raise AssertionError
    except OutOfMemory:
        pass
    del kept
    with bounded(Memory("600MB")):
        torch.ones(10**8)
    """)


@linux
def test_a_smaller_limit_of_the_user_stays_and_other_errors_pass():
    alone("""
    resource.setrlimit(resource.RLIMIT_DATA, (3 * 10**9, before[1]))
    try:
        with bounded(Memory("1TB")):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 3 * 10**9
            raise ValueError("as it was")
    except ValueError as error:
        assert str(error) == "as it was"
    assert resource.getrlimit(resource.RLIMIT_DATA) == (3 * 10**9, before[1])
    """)


def chained(error: Exception) -> Exception:
    outer = RuntimeError("a round failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "so"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
                      "allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("std::bad_alloc"), True),
        (chained(MemoryError()), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("cannot allocate memory of the past"), False),
    ],
)  # fmt: skip
def test_how_it_is_told_from_other_errors(error, so):
    assert is_out_of_memory(error) is so
