"""A local Ray is this machine's own affair."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


LISTENING = """
from raylottery.driver.cluster import connected

with connected(None):
    import psutil, ray

    ray.get(ray.remote(lambda: None).remote())
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print(socket.laddr.ip.removeprefix("::ffff:"))
"""


@pytest.mark.timeout(120)
def test_nobody_else_can_reach_it():
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    found = subprocess.run(
        [sys.executable, "-c", LISTENING],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout.split()  # fmt: skip
    assert len(found) > 5
    assert set(found) <= {"127.0.0.1", "::1"}
