"""What can go wrong, by who can mend it. Every message ends with what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RaylotteryError(Exception):
    """An error that names its cause and its mend; shown without a traceback."""

    exit_code = 1


class UsageError(RaylotteryError):
    """A command line, a sweep or a store that cannot be meant: refused before anything starts."""

    exit_code = 2


class SpecError(UsageError):
    """A sweep file that is refused, with the place in the file where it went wrong."""

    def __init__(self, problem: str, *, file: str | None = None, line: int | None = None):
        self.problem = problem
        self.file = file
        self.line = line
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(f"{place}: {problem}" if place else problem)


class NothingYet(UsageError):
    """A question that finished rounds would answer, where there are none yet."""

    exit_code = 3


class NotFoundError(RaylotteryError):
    """A sweep, lineage, file or cluster that is not there or does not answer."""

    exit_code = 3


class StoreError(RaylotteryError):
    """A store whose contents contradict themselves."""


class Damaged(StoreError):
    """A file of a store that is not as it was written."""


class LostRound(Damaged):
    """A finished round whose record, or a file of it, is damaged or gone: it has to be trained
    again before others can stand on it."""

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


class NotKept(LostRound):
    """A file of a finished round that a sweep's `keep` let go."""

    exit_code = 2


class NewerStore(StoreError):
    """Something that a newer raylottery wrote: it is never set aside, and never overwritten."""

    exit_code = 2


class DataError(RaylotteryError):
    """A file of a data set that is not what its publisher made."""


class TrainingError(RaylotteryError):
    """A training that cannot go on, such as a loss that is no longer a number."""


class NothingToPrune(TrainingError):
    """A network so small by now that a round would prune none of it, or all."""


MOST = 20


def did_you_mean(name: object, choices: Iterable[object]) -> str:
    """A sentence with the valid name nearest to `name`, or with all of them if none is near."""
    known = [str(choice) for choice in choices]
    near = nearest(name, known)
    if near:
        return f"Did you mean {near!r}?"
    return f"Valid: {', '.join(known[:MOST])}{', ...' if known[MOST:] else ''}." if known else ""


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice that looks most like `name`, if any does."""
    near = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    return near[0] if near else None
