"""`raylottery status --serve`: a sweep's report and how it stands, on a page that keeps up.

The page asks every few seconds: `/state` for how the sweep stands, `/` for the report, if it is
another than the one shown. The store is read to answer that and for nothing else, for all tabs
together no more often than every few seconds and for no more than a tenth of the time.

It is for people at this machine: it listens on the loopback alone, and refuses a request that
names another host, which is how a page from elsewhere would come to read it.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from raylottery.analysis.report.live import Page, live_page, told
from raylottery.cli import render
from raylottery.driver.live import moment
from raylottery.errors import UsageError


if TYPE_CHECKING:
    from raylottery.driver.jobs import Job
    from raylottery.driver.live import Letter, Live
    from raylottery.driver.stored import Standing
    from raylottery.store.files import Files

    Look = Callable[[], tuple[Standing, Sequence[Job]]]

HOST = "127.0.0.1"
PORTS = range(8787, 8807)
"""Those that are tried where none is given."""

LOOK_S = 4.0
SHARE = 0.1
MOST_FAILURES = 3

OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)
TEXT = "text/plain; charset=utf-8"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Seen = TypeVar("Seen")


def serve(name: str, files: Files, look: Look, port: int | None) -> int:
    """Answer browsers until an interrupt; the exit code."""
    with listening(name, files, look, port) as server, suppress(KeyboardInterrupt):
        place = f"http://{HOST}:{server.server_address[1]}"
        render.lines(f"{place}  (Ctrl-C ends the page, not the sweep)")
        server.serve_forever()
    server.rest()
    return 130


def listening(name: str, files: Files, look: Look, port: int | None) -> Server:
    """A server at `port`, or at the first free one of the usual."""
    state: Paced[State] = Paced(partial(seen, look))
    page: Paced[Page] = Paced(partial(live_page, name, files))
    reason = ""
    for one in PORTS if port is None else [port]:
        try:
            return Server(one, state, page)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    which = f"any port from {PORTS[0]} to {PORTS[-1]}" if port is None else f"port {port}"
    raise UsageError(
        f"cannot listen at {which} of {HOST}: {reason}. Give a free one from 1024 to 65535 with "
        "--port" + (", or leave it out" if port is not None else "")
    )


class Paced(Generic[Seen]):
    """What was seen last; it is looked for anew only when asked for, and when that is due."""

    def __init__(self, look: Callable[[Seen | None], Seen]):
        self.look = look
        self.last: Seen | None = None
        self.due = 0.0
        self._one_at_a_time = threading.Lock()

    def __call__(self) -> Seen:
        with self._one_at_a_time:
            begun = time.monotonic()
            if self.last is None or begun >= self.due:
                self.last = self.look(self.last)
                ended = time.monotonic()
                self.due = ended + max(LOOK_S, (ended - begun) / SHARE)
            return self.last

    def rest(self) -> None:
        """Wait for a look that is under way, and begin no other."""
        self._one_at_a_time.acquire()


@dataclass(frozen=True, kw_only=True)
class State:
    """How a sweep stands, in words."""

    at: str = ""
    """when it was looked at"""
    word: str = "Unknown"
    kind: str = "still"
    """`running`, `still` or `done`: how the word looks"""
    under_way: bool = False
    done: int = 0
    planned: int = 0
    left: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    """what runs, waits or failed: `note` or `wrong`, and a sentence"""
    trouble: str = ""


def seen(look: Look, before: State | None) -> State:
    """How a sweep stands now; as before, and what went wrong, where that cannot be seen."""
    try:
        return stands(*look())
    except Exception as error:  # noqa: BLE001 (told on the page)
        return replace(before or State(), trouble=told(error))


def stands(now: Standing, jobs: Sequence[Job]) -> State:
    members = now.plan.lineages
    planned = sum(len(line.rounds) for line in members)
    done = planned - sum(len(now.plan.unfinished(line)) for line in members)
    waits = [letter for letter in now.waiting if not letter.refused]
    if now.alive:
        word, kind = "Running", "running"
    elif waits:
        word, kind = "Waiting", "still"
    elif done == planned:
        word, kind = "Finished", "done"
    else:
        word, kind = "Nothing runs", "still"
    return State(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        word=word,
        kind=kind,
        under_way=now.under_way,
        done=done,
        planned=planned,
        left=f"about {render.duration(now.eta_s)} left" if now.eta_s else "",
        lines=(
            *(of_run(run) for run in now.runs),
            *(of_letter(letter) for letter in now.waiting),
            *(("note", f"Ray job {job.id}: {job.status}. {job.message}") for job in jobs),
            *failed(now),
        ),
    )


def of_run(run: Live) -> tuple[str, str]:
    """A run that is under way, or that was killed."""
    who = f"{run.place} on {run.holder.host}"
    rounds = f"{run.trained:,} round{'' if run.trained == 1 else 's'}"
    if run.seems_alive:
        seconds = (moment(run.at) - moment(run.began)).total_seconds()
        job = f", job {run.job}" if run.job else ""
        return "note", f"{who}{job}: {rounds} in {render.duration(seconds)}"
    ago = render.duration(abs(run.age_s))
    return "wrong", f"{who}: last heard of {ago} ago, after {rounds}; it may be gone"


def of_letter(letter: Letter) -> tuple[str, str]:
    """A job that was handed in."""
    if letter.refused:
        return "wrong", f"job {letter.job} ended at once: {letter.refused}"
    return "note", f"job {letter.job} was submitted to {letter.address} and has not begun"


def failed(now: Standing) -> list[tuple[str, str]]:
    """What the first of the failed lineages failed with."""
    errors = [(line, now.error(line)) for line in now.plan.lineages]
    found = [(line, error) for line, error in errors if error is not None]
    lines = [
        ("wrong", f"{line.arm.label}, seed {line.seed} failed: {error}")
        for line, error in found[:MOST_FAILURES]
    ]
    if more := len(found) - len(lines):
        name = now.plan.sweep.name
        lines.append(("wrong", f"{more:,} more failed: `raylottery logs {name} --failed`"))
    return lines


class Server(ThreadingTCPServer):
    """One thread a request; one that waits for a browser does not hold up the end."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, state: Paced[State], page: Paced[Page]):
        self.state = state
        self.page = page
        super().__init__((HOST, port), partial(Handler, state, page))

    def rest(self) -> None:
        """Read no more: a thread that ends inside a library may take all down with it."""
        self.state.rest()
        self.page.rest()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that was closed meanwhile is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = 30
    """seconds that a silent connection is kept"""

    def __init__(self, state: Paced[State], page: Paced[Page], *request: Any):
        self.state = state
        self.page = page
        super().__init__(*request)

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host", [])
        path = self.path.partition("?")[0]
        if len(hosts) != 1 or not OWN_HOST.fullmatch(hosts[0]):
            self.answer(403, TEXT, f"ask for http://{HOST}, by no other name\n")
        elif path == "/":
            self.answer_page()
        elif path == "/state":
            self.answer(200, "application/json", json.dumps(self.news()))
        else:
            self.answer(404, TEXT, "there is one page here: /\n")

    do_HEAD = do_GET

    def answer_page(self) -> None:
        page = self.page()
        tag = f'"{page.version}"'
        known = self.headers.get("If-None-Match") == tag
        html = "text/html; charset=utf-8"
        self.answer(304 if known else 200, html, "" if known else page.html, ETag=tag)

    def news(self) -> dict[str, Any]:
        """How the sweep stands, for the page's script."""
        state = self.state()
        page = self.page.last
        trouble = [state.trouble, page.trouble if page else ""]
        wrong = [("wrong", text) for text in dict.fromkeys(trouble) if text]
        return {
            **asdict(state),
            "rounds": f"{state.done:,} of {state.planned:,} rounds" if state.planned else "",
            "lines": [*wrong, *state.lines],
            "due_s": max(0.0, self.state.due - time.monotonic()),
        }

    def answer(self, status: int, kind: str, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Type": kind}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the terminal shows where the page is."""
