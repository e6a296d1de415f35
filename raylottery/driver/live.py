"""What a run shows of itself in the store while it lives, and what others may ask of it there.

A run counts on in its own small file every few seconds, and removes it when it ends. It looks
there, too, for a request to end. So whoever can read and write the store can watch and cancel,
and no cluster has to be reached.

Clocks of two machines are never trusted to agree: a time is only ever shown, and whether a run
still lives is seen by watching it count.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from raylottery import __version__
from raylottery.errors import Damaged, RaylotteryError, UsageError
from raylottery.store import Store, layout
from raylottery.store.damage import damaged, refuse_newer
from raylottery.store.files import Files
from raylottery.store.holder import Holder
from raylottery.store.record import Instant
from raylottery.store.rounds import tell


BEAT_S = 5.0
LOOK_S = 2.0
SILENCE_S = 12.0
"""After so long without a beat, watched here, a run is taken for gone."""
FRESH_S = 30.0

How = Literal["round", "now"]

log = logging.getLogger(__name__)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Live:
    """A run that is under way, as it said itself."""

    run: str
    sweep: str
    place: str
    """What it trains on: this process, a local Ray, or the cluster at an address."""
    job: str | None
    """The Ray job that it is, where `submit` started it."""
    began: Instant
    at: Instant
    """When it wrote this, by its own clock."""
    trained: int
    """Rounds that were committed since it began."""
    holder: Holder

    @classmethod
    def this_process(cls, sweep: str, run: str, place: str) -> Live:
        at, job = now(), os.environ.get(JOB)
        return cls(
            run=run,
            sweep=sweep,
            place=place,
            job=job,
            began=at,
            at=at,
            trained=0,
            holder=Holder.this_process(attempt=1),
        )

    def beat(self, trained: int) -> Live:
        holder = replace(self.holder, counter=self.holder.counter + 1)
        return replace(self, at=now(), trained=trained, holder=holder)

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @property
    def age_s(self) -> float:
        """Seconds since it was heard of, if its clock and ours agree."""
        return (datetime.now(UTC) - moment(self.at)).total_seconds()

    @property
    def seems_alive(self) -> bool:
        return not self.holder.is_dead() and abs(self.age_s) < FRESH_S

    @property
    def rate(self) -> float:
        """Rounds a second, by its own clock."""
        seconds = (moment(self.at) - moment(self.began)).total_seconds()
        return self.trained / seconds if seconds > 0 else 0.0


class Request(TypedDict):
    """What others ask of a run."""

    how: How
    at: str


_LIVE = TypeAdapter(Live)
_REQUEST = TypeAdapter(Request)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def live_runs(store: Store, sweep: str) -> list[Live]:
    """The runs that have a file, oldest first; one that was killed leaves its own behind."""
    names = store.files.list(layout.runs(sweep))
    found = [read_live(store.files, sweep, name.removesuffix(".json")) for name in names]
    return sorted((run for run in found if run is not None), key=lambda run: run.began)


def read_live(files: Files, sweep: str, run: str) -> Live | None:
    try:
        path = layout.live(sweep, run)
        data = files.read(path)
        refuse_newer(data, files.where(path))
        found = _LIVE.validate_json(data)
    except (FileNotFoundError, Damaged, ValueError):
        return None  # it has ended meanwhile, or is no file of ours
    return found if (found.sweep, found.run) == (sweep, run) else None  # no copy of another's


def still_running(store: Store, sweep: str) -> list[Live]:
    """The runs that were seen to count, or ended on their own; the files of others are removed.

    It takes no time where there is none, and a beat or two where one lives.
    """
    watched = live_runs(store, sweep)
    dead = [run for run in watched if run.holder.is_dead()]
    silent = dead + silent_among(store.files, [run for run in watched if run not in dead])
    forget(store.files, silent)
    return [run for run in watched if run not in silent]


def silent_among(files: Files, runs: Iterable[Live]) -> list[Live]:
    """Those that do not count on while they are watched."""
    waiting = list(runs)
    until = time.monotonic() + SILENCE_S
    while waiting and time.monotonic() < until:
        time.sleep(0.5)
        waiting = [run for run in waiting if read_live(files, run.sweep, run.run) == run]
    return waiting


def forget(files: Files, runs: Iterable[Live]) -> None:
    """Remove what runs that are gone left behind."""
    for run in runs:
        files.delete(layout.live(run.sweep, run.run))
        files.delete(layout.cancel(run.sweep, run.run))


@dataclass(frozen=True)
class Cancelled:
    """What a request to end a sweep's runs came to."""

    asked: list[Live]
    """Runs that will see the request within seconds."""
    gone: list[Live]
    """Runs that had been killed: what they left behind is removed."""
    recalled: list[Letter]
    """Jobs that will not begin."""


def cancel(store: Store, sweep: str, how: How) -> Cancelled:
    """Ask all runs of a sweep to end, and those that were handed in not to begin."""
    recalled = letters(store, sweep)
    drop(store, recalled)
    files, runs = store.files, live_runs(store, sweep)
    gone = [run for run in runs if run.holder.is_dead()]
    asked = [run for run in runs if run not in gone]
    for run in asked:
        request = _REQUEST.dump_json({"how": how, "at": now()})
        files.write(layout.cancel(sweep, run.run), request + b"\n")
    gone += silent_among(files, [run for run in asked if not run.seems_alive])
    forget(files, gone)
    begun = {run.job for run in runs}
    return Cancelled(
        asked=[run for run in asked if run not in gone],
        gone=gone,
        recalled=[one for one in recalled if not one.refused and one.job not in begun],
    )


class Pulse:
    """Counts on for a run while it lives, and hears what is asked of it.

    A thread of its own does both: a round that takes hours is no reason to be silent.
    """

    def __init__(
        self,
        files: Files,
        live: Live,
        trained: Callable[[], int],
        on_cancel: Callable[[How], None],
    ):
        self.files = files
        self.live = live
        self.trained = trained
        self.on_cancel = on_cancel
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        left = live_runs(Store(self.files), self.live.sweep)
        forget(self.files, [run for run in left if run.holder.is_dead()])
        self.files.write(self._path, self.live.to_bytes())
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        forget(self.files, [self.live])

    @property
    def _path(self) -> str:
        return layout.live(self.live.sweep, self.live.run)

    def _run(self) -> None:
        due = time.monotonic() + BEAT_S
        while not self._ended.wait(LOOK_S):
            try:
                self._look()
                if time.monotonic() >= due:
                    self.live = self.live.beat(self.trained())
                    self.files.write(self._path, self.live.to_bytes())
                    due = time.monotonic() + BEAT_S
            except (OSError, ValueError, RaylotteryError) as error:
                log.warning("the run cannot show in the store that it lives: %s", error)

    def _look(self) -> None:
        how = self._asked()
        if how is not None:
            self.on_cancel(how)

    def _asked(self) -> How | None:
        """What was asked of this run; a job whose letter was taken away is to end, too."""
        sweep, job = self.live.sweep, self.live.job
        path = layout.cancel(sweep, self.live.run)
        try:
            return _REQUEST.validate_json(self.files.read(path))["how"]
        except FileNotFoundError:
            recalled = job is not None and not self.files.exists(layout.letter(sweep, job))
            return "round" if recalled else None
        except ValidationError:
            tell(Damaged(damaged(self.files, path, "it asks for nothing that is known")))
            return None


# Letters: what `submit` leaves in the store for the job that it starts

JOB = "RAYLOTTERY_JOB"
"""The environment variable that tells a run which job it is."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A job that was handed in and does not train yet, or was refused."""

    job: str
    sweep: str
    address: str
    version: str = __version__
    """The raylottery that handed it in."""
    at: str
    refused: str | None = None
    """Why nothing comes of it any more."""

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


_LETTER = TypeAdapter(Letter)


def post(store: Store, letter: Letter) -> None:
    """Leave a letter, and take away those of jobs that were refused before."""
    drop(store, [old for old in letters(store, letter.sweep) if old.refused])
    store.files.write(layout.letter(letter.sweep, letter.job), letter.to_bytes())


def drop(store: Store, posted: Iterable[Letter]) -> None:
    for letter in posted:
        store.files.delete(layout.letter(letter.sweep, letter.job))


def letters(store: Store, sweep: str) -> list[Letter]:
    """The letters of jobs that have not begun, oldest first."""
    found = []
    for name in store.files.list(layout.letters(sweep)):
        letter = read_letter(store, sweep, name.removesuffix(".json"))
        if letter is not None:
            found.append(letter)
    return sorted(found, key=lambda letter: letter.at)


def read_letter(store: Store, sweep: str, job: str) -> Letter | None:
    try:
        found = _LETTER.validate_json(store.files.read(layout.letter(sweep, job)))
    except (FileNotFoundError, Damaged, ValueError):
        return None
    return found if (found.sweep, found.job) == (sweep, job) else None


@contextmanager
def as_a_job(store: Store, sweep: str) -> Generator[None]:
    """Around a run: if it is a job, it must find its letter, and answers it when it ends."""
    job = os.environ.get(JOB)
    if job is None:
        yield
        return
    letter = read_letter(store, sweep, job)
    if letter is None:
        raise UsageError(
            f"the job {job} does not find in {store.uri} what `raylottery submit` left there for "
            f"it: it was cancelled before it began, or the head's machine sees another store. "
            f"Give --store a folder that all machines share, or a URI such as s3://bucket/folder"
        )
    try:
        if letter.version != __version__:
            raise UsageError(
                f"the cluster has raylottery {__version__}, and {letter.version} submitted the "
                f"job: rounds might get other keys. Install one version everywhere, or submit "
                f"with --env wheel, which brings its own"
            )
        yield
    except Exception as error:
        refused = replace(letter, refused=str(error) or type(error).__name__)
        store.files.write(layout.letter(sweep, job), refused.to_bytes())
        raise
    drop(store, [letter])
