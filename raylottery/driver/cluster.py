"""The Ray that a plan runs on: a local one, or a cluster that is up already."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from raylottery.driver.scratch import scratch_folder
from raylottery.errors import NotFoundError, UsageError


ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this very environment
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt is the driver's to answer
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
}


PATIENCE_S = 5.0
FOLDER = "raylottery-ray-"
"""A local Ray's own files, of which it never clears any away, go into folders that we do."""
SESSION = len(
    f"/{FOLDER}12345678/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
)
LONGEST = 107 if sys.platform == "linux" else 103
"""So long may the path of a socket be; where temporary folders lie deeper, Ray chooses."""


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """A Ray to run on: the cluster at `address`, this process's own, or a new local one."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    choose_auth(address)
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as own:
        if address is None:
            python = shlex.quote(sys.executable)
            if python != sys.executable:  # with a space, where Ray's own shell line would split
                quiet["runtime_env"] = {"py_executable": python}
            if len(tempfile.gettempdir()) + SESSION <= LONGEST:
                # Below a folder that is this user's alone: Ray opens its own to everybody.
                quiet["_temp_dir"] = str(own.enter_context(scratch_folder(FOLDER)) / "r")
            own.enter_context(on_loopback())
            own.callback(ray.shutdown)
            # Never a cluster that happens to run on this machine, nor the one of RAY_ADDRESS.
            ray.init("local", include_dashboard=False, object_store_memory=100 * 2**20, **quiet)
        else:
            reach(address)
            own.callback(ray.shutdown)
            try:
                ray.init(address=address, **quiet)
            except ConnectionError as error:
                raise NotFoundError(
                    f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}. "
                    f"Is it up (`ray status --address {address}`), with the same RAY_AUTH_MODE?"
                ) from error
        yield


@contextmanager
def on_loopback() -> Generator[None]:
    """Has a Ray that is started meanwhile listen to this machine alone, unless the user says else.

    It does so where Ray has no clusters, as on macOS; elsewhere it listens to all the network.
    """
    from ray._private import ray_constants

    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    if name in os.environ:
        yield
        return
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[name]
        ray_constants.ENABLE_RAY_CLUSTER = before


def reach(address: str) -> None:
    """Fail in seconds where nobody listens; Ray itself would try for a minute."""
    if address == "auto":
        return
    if "://" in address:
        raise UsageError(
            f"--address {address}: `run` joins a cluster from one of its own machines; give "
            f"HOST:PORT, such as 10.0.0.5:6379, or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
        greet(address)
    except OSError as error:
        raise NotFoundError(
            f"no Ray cluster answers at {address}: {error}. Start one with `ray start --head`, "
            f"or leave --address out to run on a local Ray"
        ) from error


def greet(address: str) -> None:
    """Refuse whatever listens there but is no Ray: Ray would go on asking it for ever."""
    import grpc

    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
        except grpc.FutureTimeoutError as error:
            raise ConnectionError("something listens there, but it is no Ray head") from error


def choose_auth(address: str | None) -> None:
    """Say explicitly whether tokens are used: Ray's own default differs between its commands."""
    token = os.path.exists(os.path.expanduser("~/.ray/auth_token")) or any(
        name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    )
    os.environ.setdefault("RAY_AUTH_MODE", "token" if address and token else "disabled")
