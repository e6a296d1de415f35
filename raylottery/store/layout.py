"""Where everything lies in a store: every path, and nothing but paths.

Paths are relative to the store's root and use forward slashes on every filesystem. Each part
that comes from outside (a key, a sweep's name, a file's name) is checked here, so that none can
lead out of the root or hide a file from listings.
"""

from __future__ import annotations

import re

from raylottery.errors import UsageError
from raylottery.spec.fingerprint import fingerprint


ROUNDS = "rounds"
SNAPSHOTS = "snapshots"
SWEEPS = "sweeps"
TICKET = "ticket.safetensors"
"""The file of a round that the next one is drawn from."""

_KEY = re.compile(r"[0-9a-f]{32}")
_LINEAGE = re.compile(r"[0-9a-f]{12}")
_SWEEP = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RUN = re.compile(r"[0-9a-f]{12}")


def is_key(text: str) -> bool:
    """Whether `text` has the form of a round's key."""
    return _KEY.fullmatch(text) is not None


def round_folder(key: str) -> str:
    """The folder of one round."""
    _require(_KEY, key, "a key is 32 hexadecimal digits")
    return f"{ROUNDS}/{key[:2]}/{key}"


def record(key: str) -> str:
    """The file whose presence says that the round is done."""
    return f"{round_folder(key)}/record.json"


def attempt_folder(attempt: int, token: str) -> str:
    """The folder of one attempt, relative to the round's: no two writers ever share one."""
    return f"{attempt}-{token}"


def round_file(key: str, path: str) -> str:
    """A file of a round, from its path relative to the round's folder."""
    for part in path.split("/"):
        _require(_FILE, part, "a file of a round has a plain relative path")
    return f"{round_folder(key)}/{path}"


def aside(key: str) -> str:
    """What a round that is under way has come to, put aside in case it is cut off."""
    return f"{round_folder(key)}/aside.safetensors"


def set_asides(key: str) -> str:
    """The folder of a round's records that turned out to stand for damaged files."""
    return f"{round_folder(key)}/set-aside"


def set_aside(key: str, number: int) -> str:
    """The record that was set aside as this number, from 1."""
    return f"{set_asides(key)}/{number}.json"


def trimmed(key: str) -> str:
    """The note of the files of a finished round that a sweep's `keep` let go."""
    return f"{round_folder(key)}/trimmed.json"


def failures(key: str) -> str:
    """The folder of a round's failure notes."""
    return f"{round_folder(key)}/failures"


def failure(key: str, number: int) -> str:
    """The failure note of this number, from 1."""
    return f"{failures(key)}/{number}.json"


def lease(key: str) -> str:
    """The file that says who is training a round now."""
    return f"{round_folder(key)}/lease.json"


def takeovers(key: str) -> str:
    """The folder of the leases that took over from stale ones."""
    return f"{round_folder(key)}/takeovers"


def takeover(key: str, token: str) -> str:
    """The one lease that may follow the stale lease with this token."""
    _require(_KEY, token, "a lease's token is 32 hexadecimal digits")
    return f"{takeovers(key)}/{token}.json"


def snapshot(trunk: str, step: int) -> str:
    """The weights of a trunk after `step` updates."""
    _require(_KEY, trunk, "a trunk's key is 32 hexadecimal digits")
    key = fingerprint({"trunk": trunk, "step": step})
    return f"{SNAPSHOTS}/{key[:2]}/{key}.safetensors"


def is_sweep(text: str) -> bool:
    """Whether `text` can be the name of a sweep."""
    return _SWEEP.fullmatch(text) is not None


def sweep_folder(sweep: str) -> str:
    """The folder of one sweep."""
    if not is_sweep(sweep):
        raise UsageError(
            f"{sweep!r} cannot be the name of a sweep: it would not be safe as a folder's name. "
            "Use up to 64 letters, digits, '-', '_' and single dots, a letter or digit first."
        )
    return f"{SWEEPS}/{sweep}"


def sweep_file(sweep: str, name: str = "sweep.yaml") -> str:
    """A file of a sweep; the sweep itself, as resolved, unless another is named."""
    _require(_FILE, name, "a file of a sweep has a plain name")
    return f"{sweep_folder(sweep)}/{name}"


def table(sweep: str, name: str) -> str:
    """One of a sweep's tables, such as `rounds`."""
    return sweep_file(sweep, f"{name}.parquet")


def analyses(sweep: str) -> str:
    """The folder of the tables that probes of a sweep's tickets gave."""
    return f"{sweep_folder(sweep)}/analyses"


def analysis(sweep: str, kind: str) -> str:
    """The table that one kind of analysis gave."""
    _require(_FILE, kind, "a kind of analysis has a plain name")
    return f"{analyses(sweep)}/{kind}.parquet"


def provenance(sweep: str) -> str:
    """Who ran a sweep last, from where and with what."""
    return sweep_file(sweep, "provenance.json")


def stop(sweep: str, run: str) -> str:
    """The file whose presence asks the trials of one run to stop at their round's end."""
    return sweep_file(sweep, f"stop-{run}")


def runs(sweep: str) -> str:
    """The folder of what the runs of a sweep show of themselves while they live."""
    return f"{sweep_folder(sweep)}/runs"


def live(sweep: str, run: str) -> str:
    """What one run shows of itself while it lives."""
    _require(_RUN, run, "a run's id is 12 hexadecimal digits")
    return f"{runs(sweep)}/{run}.json"


def cancel(sweep: str, run: str) -> str:
    """The file that asks one run to end, at its rounds' end or at once."""
    _require(_RUN, run, "a run's id is 12 hexadecimal digits")
    return sweep_file(sweep, f"cancel-{run}")


def letters(sweep: str) -> str:
    """The folder of the letters that `submit` leaves for the jobs of a sweep."""
    return f"{sweep_folder(sweep)}/jobs"


def letter(sweep: str, job: str) -> str:
    """What a job finds in the store if it is the one that `submit` wrote to."""
    _require(_FILE, job, "a job's id is a plain name")
    return f"{letters(sweep)}/{job}.json"


def log(sweep: str, lineage: str) -> str:
    """The log of one lineage."""
    _require(_LINEAGE, lineage, "a lineage's id is 12 hexadecimal digits")
    return f"{sweep_folder(sweep)}/logs/{lineage}.log"


def _require(form: re.Pattern[str], text: str, expected: str) -> None:
    if not form.fullmatch(text):
        raise ValueError(f"{text!r} is no place in a store: {expected}")
