"""What each kind of disturbance does. All of it is done from outside, as the world does it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raylottery.driver.plan import make_plan
from raylottery.spec import Round, parse_sweep
from raylottery.store import layout
from raylottery.store.holder import Holder
from tests.faults.processes import Command, limit_files, marked, name_of, send, until
from tests.faults.s3 import ERRORS
from tests.faults.stage import NAME, Stage
from tests.faults.stories import Disturbance
from tests.faults.watch import Watch


ENDS_S = 90.0
EXCHANGE = 2
"""RENAME_EXCHANGE of Linux."""


class Missed(Exception):
    """What was to be disturbed was not there any more."""


@dataclass
class Mischief:
    """Disturbs a stage, and counts what that may cost."""

    stage: Stage
    watch: Watch
    kills: int = 0
    may_lose: int = 0
    """Unfinished rounds that the kills may have cost: one for each lineage under way."""
    outages: int = 0
    damage: int = 0
    """How many runs were begun before the last that none has mended yet; 0 if there is none."""
    signalled: set[int] = field(default_factory=set)
    """Runs that did not end on their own."""
    rounds: dict[str, Round] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rounds = make_plan(parse_sweep(self.stage.story.sweep), None).rounds

    def happen(self, it: Disturbance) -> None:
        """Missed if there was nothing to disturb."""
        ACTS[it.kind](self, it)

    # Kills

    def kill(self, it: Disturbance) -> None:
        self._end_driver(signal.SIGKILL)

    def terminate(self, it: Disturbance) -> None:
        self._end_driver(signal.SIGTERM)

    def interrupt(self, it: Disturbance) -> None:
        """Once or twice; as a terminal does, where Ray runs beside."""
        run, local = self._driver(), self.stage.story.place == "ray"
        self.signalled.add(run.pid)
        for last in (False, True) if it.chance < 0.4 else (True,):
            self.stage.say("SIGINT")
            if local:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGINT)
            else:
                send(run.pid, signal.SIGINT)
            if not last:
                self.may_lose += self.stage.story.abreast
                time.sleep(0.3)
        self._await_end(run)

    def worker(self, it: Disturbance) -> None:
        if not until(lambda: bool(self.stage.ear.at_work()), 30, every=0.005):
            raise Missed
        victims = self.stage.ear.at_work()
        if not victims:
            raise Missed
        self._kill(victims[int(it.chance * len(victims))])
        self.may_lose += self.stage.story.threads

    def node(self, it: Disturbance) -> None:
        """Its raylet, or all of it at once."""
        node = self.stage.cluster[1]
        raylets = [pid for pid in node.members() if name_of(pid) == "raylet"]
        if not raylets:
            raise Missed
        self._kill(raylets[0])
        self.may_lose += 1
        if it.chance < 0.5:
            node.kill_all()

    def everything(self, it: Disturbance) -> None:
        for run in self.stage.alive:
            self.signalled.add(run.pid)
        self.kills += 1
        self.may_lose += self.stage.story.abreast
        for pid in marked(self.stage.mark):
            send(pid, signal.SIGKILL)
        self.stage.say("SIGKILL of everything")
        for command in (*self.stage.runs, *self.stage.cluster):
            command.process.wait(30)

    def _driver(self) -> Command:
        if not self.stage.alive:
            raise Missed
        return self.stage.alive[0]

    def _end_driver(self, number: signal.Signals) -> None:
        run = self._driver()
        self.signalled.add(run.pid)
        self._kill(run.pid, number)
        self.may_lose += self.stage.story.abreast
        self._await_end(run)

    def _kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        self.kills += 1
        self.stage.say(f"{number.name} of process {pid} ({name_of(pid)})")
        send(pid, number)

    def _await_end(self, run: Command) -> None:
        if not until(lambda: not run.alive, ENDS_S, every=0.02):
            raise RuntimeError(f"a run did not end in {ENDS_S:.0f} s of being told to")

    # Outages

    def refuse(self, it: Disturbance) -> None:
        """A file is where the store was: nobody can write there, root neither."""
        root = Path(self.stage.uri)
        if not until(lambda: root.is_dir() or not self.stage.alive, 30) or not root.is_dir():
            raise Missed
        other = root.with_name("in-its-place")
        other.write_text("no folder")
        self.stage.say("the store is no folder any more")
        with self.watch.looking:
            exchange(root, other)
            time.sleep(self._length(it))
            exchange(root, other)
        other.unlink()
        self.stage.say("the store is a folder again")

    def full(self, it: Disturbance) -> None:
        """A disk that something else has filled; or a limit that works like one."""
        run, ballast = self._driver(), self.stage.place / "ballast"
        if not self.stage.mounted:
            processes = {run.pid, *self.stage.ear.at_work()}
            self.stage.say(f"{processes} can write no files")
            for pid in processes:
                limit_files(pid, 0)
            time.sleep(self._length(it))
            for pid in processes:
                limit_files(pid, 1 << 62)
            self.stage.say("they can again")
            return
        self.stage.say("the disk is full")
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        time.sleep(self._length(it))
        ballast.unlink()
        self.stage.say("the disk has room again")

    def s3_errors(self, it: Disturbance) -> None:
        line = self.stage.line
        assert line is not None
        line.error = list(ERRORS)[it.chance < 0.5]
        self.stage.say(f"S3 answers {line.error}")
        time.sleep(self._length(it))
        line.error = None
        self.stage.say("S3 answers")

    def s3_slow(self, it: Disturbance) -> None:
        line = self.stage.line
        assert line is not None
        line.delay_s = 0.05 + 0.4 * it.chance
        self.stage.say(f"S3 takes {line.delay_s:.2f} s")
        time.sleep(self._length(it))
        line.delay_s = 0.0
        self.stage.say("S3 is quick again")

    def _length(self, it: Disturbance) -> float:
        self.outages += 1
        return 0.3 + 3 * it.chance

    # What is found later

    def lease(self, it: Disturbance) -> None:
        """A machine that is gone took the lease of a round."""
        store = self.stage.store()
        keys = list(self.rounds.keys() - store.done(self.rounds))
        holder = Holder(
            token=os.urandom(16).hex(), host="a-machine-that-is-gone", boot="its-own",
            namespace="its-own", pid=1, started="1", attempt=1, counter=3,
        )  # fmt: skip
        for key in sorted(keys):
            if store.files.create_exclusive(layout.lease(key), holder.to_bytes()):
                self.stage.say(f"a dead machine has the lease of {key[:12]}")
                return
        raise Missed

    def clock(self, it: Disturbance) -> None:
        """From the next run on: some seconds after a process begins, its clock jumps."""
        hours = round(96 * (it.chance - 0.5), 2)
        self.stage.extra_env["FAULTS_CLOCK"] = f"{2.5 + it.wait_s}:{hours}"
        self.stage.say(f"the clock of later runs jumps by {hours} hours")
        self._end_driver(signal.SIGKILL)

    def two_drivers(self, it: Disturbance) -> None:
        self.stage.run()

    # Damage between runs

    def _between_runs(self, it: Disturbance) -> None:
        for run in self.stage.alive:
            if it.chance < 0.3:
                self._await_end(run)
            else:
                self._end_driver(signal.SIGKILL)

    def damage_round(self, it: Disturbance) -> None:
        """Its record, or a file that its record names."""
        self._between_runs(it)
        store = self.stage.store()
        done = sorted(store.done(self.rounds))
        if not done:
            raise Missed
        key = done[int(it.chance * 1e4) % len(done)]
        if it.kind == "record":
            path = layout.record(key)
        else:
            record = store.record(key)
            assert record is not None
            files = {"ticket": "ticket.safetensors", "curve": "curve.parquet",
                     "layers": "layers.parquet"}  # fmt: skip
            path = layout.round_file(key, record.files[files[it.kind]].path)
        self._damage(path, it, key)

    def damage_snapshot(self, it: Disturbance) -> None:
        self._between_runs(it)
        files = self.stage.store().files
        paths = [
            f"{layout.SNAPSHOTS}/{shelf}/{name}"
            for shelf in files.list(layout.SNAPSHOTS)
            for name in files.list(f"{layout.SNAPSHOTS}/{shelf}")
        ]
        if not paths:
            raise Missed
        trunks = [key for key, round in self.rounds.items() if round.index == 0]
        self._damage(paths[int(it.chance * 1e4) % len(paths)], it, *trunks)

    def damage_sweep(self, it: Disturbance) -> None:
        """A table, or the sweep as resolved."""
        self._between_runs(it)
        files = self.stage.store().files
        names = files.list(layout.sweep_folder(NAME))
        if it.kind == "table":
            names = [name for name in names if name.endswith(".parquet")]
        else:
            names = [name for name in names if name == "sweep.yaml"]
        if not names:
            raise Missed
        name = names[int(it.chance * 1e4) % len(names)]
        self._damage(layout.sweep_file(NAME, name), it)

    def _damage(self, path: str, it: Disturbance, *excused: str) -> None:
        """Cut off, emptied, or one bit of it the other way."""
        files = self.stage.store().files
        data = files.read(path)
        middle = len(data) // 2
        if it.kind in ("record", "sweep file"):
            how, less = "cut off", data[: int(it.chance * len(data))]
        else:
            how, less = (
                ("cut off", data[:middle]),
                ("emptied", b""),
                ("altered", data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]),
            )[int(it.chance * 1e3) % 3]
        self.damage = len(self.stage.runs)
        self.watch.excuse(*excused)
        files.write(path, less)
        self.stage.say(f"{path} is {how}")


def exchange(one: Path, other: Path) -> None:
    """Two names change places, in one step."""
    libc, here = ctypes.CDLL(None, use_errno=True), -100
    if libc.renameat2(here, bytes(one), here, bytes(other), EXCHANGE):
        raise OSError(ctypes.get_errno(), f"{one} and {other} cannot change places")


ACTS: dict[str, Callable[[Mischief, Disturbance], None]] = {
    "kill": Mischief.kill,
    "terminate": Mischief.terminate,
    "interrupt": Mischief.interrupt,
    "worker": Mischief.worker,
    "node": Mischief.node,
    "everything": Mischief.everything,
    "refuse": Mischief.refuse,
    "full": Mischief.full,
    "s3 errors": Mischief.s3_errors,
    "s3 slow": Mischief.s3_slow,
    "lease": Mischief.lease,
    "clock": Mischief.clock,
    "two drivers": Mischief.two_drivers,
    **dict.fromkeys(("record", "ticket", "curve", "layers"), Mischief.damage_round),
    "snapshot": Mischief.damage_snapshot,
    "table": Mischief.damage_sweep,
    "sweep file": Mischief.damage_sweep,
}
