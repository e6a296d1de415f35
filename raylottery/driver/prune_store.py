"""What in a store no sweep refers to, and its removal.

The store is listed first, then the sweeps are read, then the leases: so whatever is listed was
written before, and a sweep that begins meanwhile is seen, or has all that it is about to write
left alone. What has a live lease, what belongs to a sweep with a live run, and every file that is
none of a store's is left where it is.
"""

from __future__ import annotations

import re
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from raylottery.driver.keep import left
from raylottery.driver.live import live_runs, silent_among
from raylottery.driver.stored import stored_sweep
from raylottery.errors import Damaged, LostRound, NewerStore, StoreError, UsageError
from raylottery.spec import lineages
from raylottery.store import Store, layout
from raylottery.store.files import Entry
from raylottery.store.rounds import in_parallel


OLD_S = 86400.0
"""A writer's temporary file that is older was left behind."""
AT_A_TIME = 200
"""Groups that are removed between two looks at the sweeps."""

ROUNDS = "rounds that no sweep refers to"
SNAPSHOTS = "snapshots that no sweep refers to"
ATTEMPTS = "attempts that came to nothing, and records that were set aside"
RUNS = "files of runs that have ended"
LOGS = "logs of lineages that are in no sweep any more"
TEMPORARY = "temporary files of killed writers"
KINDS = (ROUNDS, SNAPSHOTS, ATTEMPTS, RUNS, LOGS, TEMPORARY)

_SWEEP = r"sweeps/(?P<sweep>[^/]+)/"
_FORMS = {
    "temporary": r"(.*/)?\.([^/]+\.)?[0-9a-f]{16}\.tmp",
    "round": r"rounds/(?P<shelf>[0-9a-f]{2})/(?P<key>(?P=shelf)[0-9a-f]{30})/(?P<file>"
    r"record\.json|trimmed\.json|aside\.safetensors|lease\.json|takeovers/[0-9a-f]{32}\.json"
    r"|failures/[0-9]+\.json|set-aside/[0-9]+\.json|(?P<attempt>[0-9]+-[0-9a-f]{16})/[^./][^/]*)",
    "snapshot": r"snapshots/(?P<shelf>[0-9a-f]{2})/(?P=shelf)[0-9a-f]{30}\.safetensors",
    "run": _SWEEP + r"(runs/[0-9a-f]{12}\.json|(stop|cancel)-[0-9a-f]{12})",
    "log": _SWEEP + r"logs/[0-9a-f]{12}\.log",
    "sweep": _SWEEP + r"(sweep\.yaml|provenance\.json|report\.html|jobs/.+\.json|tensorboard/.+"
    r"|(lineages|rounds|curves|layers|failures|analyses/[a-z]+)\.parquet)",
}
"""What lies in a store, by its path."""
FORMS = {form: re.compile(pattern) for form, pattern in _FORMS.items()}


@dataclass(frozen=True)
class Group:
    """Files that go together, in this order."""

    kind: str
    files: Sequence[Entry]
    key: str | None = None
    """Of the round that they belong to."""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Referred:
    """What the sweeps of a store refer to."""

    files: Mapping[str, bytes]
    """The sweep files that this follows from, by name."""
    rounds: Set[str]
    snapshots: Set[str]
    logs: Set[str]
    """Paths, as those of snapshots."""
    live: Set[str]
    """Sweeps that are being run."""
    live_rounds: Set[str]


@dataclass(frozen=True)
class Findings:
    """What can go from a store, and what was found besides."""

    referred: Referred
    groups: Sequence[Group]
    unknown: Sequence[str]
    """Files that are none of a store's: they are left alone."""
    in_use: Sequence[str]
    """Rounds that are left alone, for someone has their leases."""
    listed: Set[str] = field(repr=False)


def find_waste(store: Store) -> Findings:
    """Look through a store; nothing is written."""
    entries = store.files.walk()
    referred = what_is_referred_to(store)
    groups: list[Group] = []
    unknown: list[str] = []
    by_round: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        form, match = form_of(entry.path)
        sweep = match["sweep"] if match and form in ("run", "log", "sweep") else None
        if match is None or (sweep is not None and sweep not in referred.files):
            unknown.append(entry.path)
        elif form == "temporary":
            if entry.changed is not None and time.time() - entry.changed > OLD_S:
                groups.append(Group(TEMPORARY, [entry]))
        elif form == "round":
            by_round[match["key"]].append(entry)
        elif form == "snapshot" and entry.path not in referred.snapshots:
            groups.append(Group(SNAPSHOTS, [entry]))
        elif form == "run" and sweep not in referred.live:
            groups.append(Group(RUNS, [entry]))
        elif form == "log" and sweep not in referred.live and entry.path not in referred.logs:
            groups.append(Group(LOGS, [entry]))
    for key, files in sorted(by_round.items()):
        if key not in referred.rounds:
            groups.append(Group(ROUNDS, sorted(files, key=record_first), key))
        elif key not in referred.live_rounds:
            groups += [Group(ATTEMPTS, each, key) for each in abandoned(key, files, store)]
    listed = {entry.path for entry in entries}
    leased = {group.key for group in groups if group.key and layout.lease(group.key) in listed}
    in_use = store.held_among(leased)
    return Findings(
        referred=referred,
        groups=[group for group in groups if group.key not in in_use],
        unknown=sorted(unknown),
        in_use=sorted(in_use),
        listed=listed,
    )


def form_of(path: str) -> tuple[str, re.Match[str] | None]:
    for form, pattern in FORMS.items():
        if match := pattern.fullmatch(path):
            return form, match
    return "", None


def record_first(entry: Entry) -> tuple[bool, str]:
    """So that a round that goes is not done from the first moment on."""
    return not entry.path.endswith("/record.json"), entry.path


def abandoned(key: str, files: Sequence[Entry], store: Store) -> Iterator[list[Entry]]:
    """Of a round that a sweep refers to, what nobody will read again."""
    attempts: dict[str, list[Entry]] = defaultdict(list)
    paths = {entry.path: entry for entry in files}
    for entry in files:
        _, match = form_of(entry.path)
        if match is not None and match["attempt"]:
            attempts[match["attempt"]].append(entry)
    beside = [e for path, e in paths.items() if path.startswith(layout.set_asides(key) + "/")]
    beside += [entry for path, entry in paths.items() if path == layout.aside(key)]
    done = layout.record(key) in paths
    if len(attempts) == done and not beside:
        return
    named = set()
    if done:
        try:
            record = store.record(key)
        except LostRound:
            return  # it may name any of them
        if record is None:
            return
        named = {file.path.partition("/")[0] for file in record.files.values()}
        yield from ([entry] for entry in beside)
    yield from (those for attempt, those in attempts.items() if attempt not in named)


def what_is_referred_to(store: Store) -> Referred:
    """By any of a store's sweeps; UsageError where one cannot be read."""
    files = sweep_files(store)
    rounds, snapshots, logs = set(), set(), set()
    live, live_rounds = set(), set()
    for name in files:
        try:
            members = lineages(stored_sweep(name, store))
            keys = {round.key for line in members for round in line.rounds}
            keys |= keys_in_table(name, store)
        except (Damaged, NewerStore) as error:
            raise UsageError(
                f"nothing is removed, for it is not known what {name} refers to: {error}"
            ) from error
        rounds |= keys
        snapshots |= {layout.snapshot(p.key, p.step) for p in left(members) if p.step is not None}
        logs |= {layout.log(name, line.id) for line in members}
        runs = live_runs(store, name)
        may_live = [run for run in runs if not run.holder.is_dead()]
        if len(silent_among(store.files, may_live)) < len(may_live):
            live.add(name)
            live_rounds |= keys
    return Referred(files, rounds, snapshots, logs, live, live_rounds)


def sweep_files(store: Store) -> dict[str, bytes]:
    """The bytes of each sweep's description; none where it was lost."""

    def read(name: str) -> bytes:
        try:
            return store.files.read(layout.sweep_file(name))
        except (FileNotFoundError, Damaged):
            return b""

    return {name: read(name) for name in store.sweeps()}


def keys_in_table(name: str, store: Store) -> set[str]:
    """Rounds that a sweep's table tells of: an older raylottery may have given them other keys."""
    from raylottery.store.tables import read_table

    try:
        table = read_table(store.files, layout.table(name, "rounds"), columns=["key"])
        return set(table["key"].to_pylist())
    except FileNotFoundError:
        return set()


def remove(findings: Findings, store: Store) -> list[Group]:
    """Remove what was found; returns what went. Work that began meanwhile is left alone."""
    removed = []
    for first in range(0, len(findings.groups), AT_A_TIME):
        refuse_change(findings.referred, store)
        some = findings.groups[first : first + AT_A_TIME]
        gone = in_parallel(lambda group: remove_group(group, findings.listed, store), some)
        removed += [group for group, went in zip(some, gone, strict=True) if went]
    return removed


def remove_group(group: Group, listed: Set[str], store: Store) -> bool:
    if group.key is not None:
        lease = layout.lease(group.key)
        if lease not in listed and store.files.exists(lease):
            return False
    for entry in group.files:
        store.files.delete(entry.path)
    folder = group.files[0].path.rpartition("/")[0]
    store.files.tidy(folder if group.key is None else layout.round_folder(group.key))
    return True


def refuse_change(referred: Referred, store: Store) -> None:
    if sweep_files(store) != referred.files:
        raise StoreError(
            "the sweeps of the store changed meanwhile, so that what they refer to is no longer "
            f"known: run prune-store again (--store {shlex.quote(store.uri)})"
        )
