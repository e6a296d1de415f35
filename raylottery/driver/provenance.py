"""Where a run came from: versions, machine, command, commit. Nothing secret is read or written."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from raylottery import __version__
from raylottery.store.provenance import Provenance


PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pandas", "gymnasium", "mnist1d")


def provenance() -> Provenance:
    """What a reader of the tables needs to know about the process that wrote them."""
    return {
        "raylottery": __version__,
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
        "host": platform.node(),
        "platform": platform.platform(),
        "command": [without_credentials(word) for word in sys.argv],
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def without_credentials(word: str) -> str:
    """A word of the command line; a URI in it without the user and password it may carry."""
    return re.sub(r"://[^/@]*@", "://", word)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The working folder's commit, marked where there are changes on top; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None
