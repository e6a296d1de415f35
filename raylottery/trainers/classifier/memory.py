"""Memory of a training on the CPU."""

from __future__ import annotations

import ctypes


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""What glibc calls them, whose `mallopt` takes numbers."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where its C library is glibc.

    Each step frees the activations of the one before and asks for as much again. By itself glibc
    gives large blocks back to the system, and every page of theirs has to be faulted in anew: a
    fifth of a small network's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for size in (1 << 30, 1 << 25):  # older ones take no more than 32 MiB
            if mallopt(MMAP_THRESHOLD, size):
                break
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
