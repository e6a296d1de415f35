"""A process as others may know it: alive, dead, or on a machine from which nobody can tell."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True, kw_only=True)
class Holder:
    """What a lease says: which process holds it, and how far it has counted."""

    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    host: str = ""
    boot: str = ""
    namespace: str = ""
    pid: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    started: str = ""
    attempt: int = 0
    counter: int = -1

    def to_bytes(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Holder:
        """The holder; of what cannot be read, one that is known by its bytes alone."""
        try:
            return _HOLDER.validate_json(data)
        except ValidationError:
            return cls.unknown(data)

    @classmethod
    def unknown(cls, data: bytes) -> Holder:
        """One that is known by some bytes alone, and never counts on."""
        return cls(token=hashlib.sha256(data).hexdigest()[:32])

    @classmethod
    def this_process(cls, attempt: int) -> Holder:
        pid = os.getpid()
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            boot=_boot(),
            namespace=_namespace(),
            pid=pid,
            started=_started(pid) or "",
            attempt=attempt,
            counter=0,
        )

    def is_dead(self) -> bool:
        """Whether it was a process of this machine that certainly lives no longer."""
        here = (socket.gethostname(), _boot(), _namespace())
        there = (self.host, self.boot, self.namespace)
        if there != here or not (self.boot and self.namespace and self.started):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it lives, under another user
        return _started(self.pid) not in (None, self.started)


_HOLDER = TypeAdapter(Holder)


@cache
def _boot() -> str:
    """This boot of this machine; empty where the system does not say."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _namespace() -> str:
    """The set of processes among which a process number means something."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" if it has ended, None if nobody can say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in "ZX" else fields[19]
