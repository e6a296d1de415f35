"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
# MNIST-1D's generator imports matplotlib, which keeps a list of fonts: not in the user's home.
FONTS = Path(tempfile.gettempdir()) / "fonts-of-raylottery-tests"
os.environ.setdefault("MPLCONFIGDIR", str(FONTS))
# A shell's background job ignores interrupts, and so would what the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
WEIRD = """it's a "store" with 100% odd (names) & spaces é"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies under tests/ray needs a Ray."""
    for item in items:
        if (ROOT / "tests" / "ray") in item.path.parents:
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests and all that they start keep data sets: never among the user's own."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLOTTERY_DATA", str(folder))
        yield folder


@pytest.fixture
def weird_path(tmp_path: Path) -> Path:
    """A folder whose name shells, URIs and globs would stumble over."""
    path = tmp_path / WEIRD
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def raylottery() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command in a subprocess, from a folder that is not the project's."""

    def call(*arguments: object, cwd: Path | None = None, timeout: float = 240, **env: str):
        return subprocess.run(
            [sys.executable, "-m", "raylottery", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=cwd or "/",
            env={**os.environ, **env},
        )

    return call
