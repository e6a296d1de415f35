"""Sweeps as Ray jobs: handed in from outside a cluster, looked at, read and stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shlex
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from raylottery.driver.cluster import ENVIRONMENT, choose_auth
from raylottery.driver.gather import Gatherer
from raylottery.driver.keep import recall, with_missed
from raylottery.driver.live import JOB, Letter, drop, letters, now, post, still_running
from raylottery.driver.parcel import SWEEP, Env, pack, python, variables
from raylottery.driver.plan import Plan, make_plan
from raylottery.driver.scratch import scratch_folder
from raylottery.driver.stored import refuse_another_study
from raylottery.driver.track import named
from raylottery.errors import NotFoundError, UsageError
from raylottery.spec import Sweep
from raylottery.store import Store


PATIENCE_S = 3.0
SHOWN = (
    "a job's command line is shown to all who see the cluster. Leave user and password out of the "
    "URI: the cluster's machines must have them in their environment"
)
SWEEP_IS, STORE_IS = "raylottery_sweep", "raylottery_store"


@dataclass(frozen=True)
class Job:
    """A sweep's job, as the cluster tells."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    message: str
    exit_code: int | None

    @property
    def alive(self) -> bool:
        return self.status in ("PENDING", "RUNNING")


class Jobs:
    """The jobs of a cluster, through its dashboard at http://HOST:8265."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        host, port = endpoint(self.address)
        knock(self.address, host, port)
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        choose_auth(address)
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # else Ray would prefer RAY_ADDRESS
        self.ray_version = answering(self.address)
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray").setLevel(
            logging.WARNING
        )  # uploads and sockets are its own affair
        self.client = JobSubmissionClient(self.address)

    def of(self, sweep: str, store: Store) -> list[Job]:
        """The jobs of a sweep on a store, oldest first."""
        wanted = about(sweep, store)
        found = [
            (job.start_time or 0, as_job(job))
            for job in self.client.list_jobs()
            if job is not None
            and job.submission_id
            and wanted.items() <= (job.metadata or {}).items()
        ]
        return [job for _, job in sorted(found, key=lambda pair: pair[0])]

    def stop(self, job: str) -> None:
        self.client.stop_job(job)

    def log(self, job: str) -> str:
        """The lines of a job's driver."""
        return self.client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], None]) -> int:
        """Pass on the driver's lines until the job ends; its exit code."""

        async def tail() -> None:
            async for text in self.client.tail_job_logs(job):
                write(text)

        try:
            asyncio.run(tail())
            ended = as_job(self.client.get_job_info(job))
            while ended.alive:
                time.sleep(0.5)
                ended = as_job(self.client.get_job_info(job))
        except (RuntimeError, OSError) as error:
            raise NotFoundError(
                f"{self.address} does not answer any more: {error}. What becomes of the job "
                f"{job} is in the store: raylottery status"
            ) from error
        if ended.exit_code is None:
            return 0 if ended.status == "SUCCEEDED" else 1
        return ended.exit_code


def as_job(details) -> Job:
    return Job(
        id=details.submission_id,
        status=details.status.value,
        message=(details.message or "").partition(", last available logs")[0],
        exit_code=details.driver_exit_code,
    )


def about(sweep: str, store: Store) -> dict[str, str]:
    """What marks the jobs of a sweep on a store."""
    return {SWEEP_IS: sweep, STORE_IS: store.uri}


# Whether anybody is there


def endpoint(address: str) -> tuple[str, int]:
    """Host and port of a dashboard."""
    host, port = None, None
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https"):
            host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        pass  # a port that is no number
    if not host or not port:
        raise UsageError(
            f"--address {address}: a job is handed to the cluster's dashboard; give "
            f"http://HOST:8265"
        )
    return host, port


def knock(address: str, host: str, port: int) -> None:
    """Fail in seconds where nobody listens."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
    except OSError as error:
        raise unreachable(address, error) from error


def answering(address: str) -> str:
    """The version of the Ray that answers; NotFoundError if something else does, or nothing."""
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )

    headers = get_auth_headers_if_auth_enabled({})
    request = urllib.request.Request(f"{address}/api/version", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise NotFoundError(
                f"the cluster at {address} asks for a token, and does not take ours. Put its "
                f"token into ~/.ray/auth_token or RAY_AUTH_TOKEN, with RAY_AUTH_MODE=token"
            ) from error
        raise unreachable(address, error) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreachable(address, error) from error


def unreachable(address: str, error: Exception) -> NotFoundError:
    return NotFoundError(
        f"no Ray dashboard answers at {address}: {error}. Is the head up, with a dashboard "
        f"(--dashboard-host, --dashboard-port), and can this machine reach it?"
    )


# Handing in


@dataclass(frozen=True)
class Submitted:
    """What came of handing in a sweep."""

    plan: Plan
    store: str
    """The store's URI, as good here as on the cluster."""
    job: str | None
    """None where nothing is left to do."""


def submit(
    sweep: Sweep,
    store: str,
    jobs: Jobs,
    *,
    env: Env = "image",
    options: Sequence[str] = (),
    replace: bool = False,
) -> Submitted:
    """Hand a sweep in as a Ray job; `options` are more words for its `raylottery run`."""
    opened = Store.open(shared(store, jobs.address))
    if not replace:
        refuse_another_study(sweep, opened)
    plan = with_missed(make_plan(sweep, opened), opened)
    if not plan.todo:
        return Submitted(plan, opened.uri, None)
    refuse_another_ray(jobs)
    refuse_running(sweep.name, opened, jobs)
    recall(plan, opened)
    Gatherer(plan, opened).describe()
    letter = Letter(
        job=f"raylottery-{sweep.name}-{secrets.token_hex(3)}",
        sweep=sweep.name,
        address=jobs.address,
        at=now(),
    )
    post(opened, letter)
    try:
        hand_in(letter.job, sweep, opened, jobs, env, [*options, *["--replace"] * replace])
    except BaseException:
        drop(opened, [letter])
        raise
    return Submitted(plan, opened.uri, letter.job)


def hand_in(
    job: str, sweep: Sweep, store: Store, jobs: Jobs, env: Env, options: Sequence[str]
) -> None:
    """The job itself: `raylottery run` on the head, in a folder with the sweep."""
    words = ["-m", "raylottery", "run", SWEEP, "--store", store.uri, "--address", "auto"]
    with scratch_folder("raylottery-job-") as scratch:
        folder = scratch / "job"
        folder.mkdir()
        pack(folder, sweep, env)
        try:
            jobs.client.submit_job(
                entrypoint=shlex.join([*python(env), *words, *options]),
                submission_id=job,
                runtime_env={"working_dir": str(folder), "env_vars": {JOB: job, **variables(env)}},
                metadata=about(sweep.name, store),
            )
        except (RuntimeError, OSError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise NotFoundError(
                f"the cluster at {jobs.address} did not take the job: {first}. Its dashboard's "
                f"log says more"
            ) from error


def shared(store: str, address: str) -> str:
    """The store as a job can open it; UsageError for a folder that only this machine has."""
    parts = urlsplit(store)
    if "://" in store and parts.password is not None:
        raise UsageError(f"--store: {SHOWN} (such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)")
    if "://" in store or is_here(endpoint(address)[0]):
        return store  # of file:///..., the job itself sees whether it is the same folder
    folder = Path(store).expanduser().absolute()
    raise UsageError(
        f"--store {store}: a folder of this machine, and the head is another one. Give a URI such "
        f"as s3://bucket/folder; or, for a folder that all machines mount at the same place, "
        f"{folder.as_uri()}"
    )


def trackable(wanted: Sequence[str], store: str) -> list[str]:
    """What `--track` says, if a job can do it: it runs on the head, in a folder that goes."""
    words = []
    for name, where in named(wanted).items():
        if name == "mlflow":
            where = where or os.environ.get("MLFLOW_TRACKING_URI", "")
            if not where.startswith(("http://", "https://")):
                raise UsageError(
                    f"--track mlflow{where and ':'}{where}: a job shows its rounds to a server: "
                    f"give --track mlflow:http://HOST:5000"
                )
            if urlsplit(where).password is not None:
                raise UsageError(f"--track mlflow: {SHOWN} (MLFLOW_TRACKING_USERNAME and "
                                 f"MLFLOW_TRACKING_PASSWORD)")  # fmt: skip
        if name == "tensorboard" and (
            ("://" in store and not where) or where[:1] not in ("", "/")
        ):
            raise UsageError(
                f"--track tensorboard{where and ':'}{where}: give a folder of the head's machine "
                f"from its root, as --track tensorboard:/mnt/shared/logs"
            )
        words.append(f"{name}:{where}" if where else name)
    return words


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(where)  # nobody can have an address that is another's
    except OSError:
        return False
    return True


def refuse_another_ray(jobs: Jobs) -> None:
    from ray import __version__ as ours

    if ours != jobs.ray_version:
        raise UsageError(
            f"the cluster at {jobs.address} runs Ray {jobs.ray_version}, and here is Ray {ours}: "
            f"install the same version here (pip install 'ray[default]=={jobs.ray_version}'), or "
            f"there"
        )


def refuse_running(sweep: str, store: Store, jobs: Jobs) -> None:
    """A sweep is handed in once at a time."""
    alive = [job.id for job in jobs.of(sweep, store) if job.alive]
    runs = still_running(store, sweep)
    posted = [one for one in letters(store, sweep) if not one.refused]
    # A letter for this very cluster, whose job is over: it never got so far as to read it.
    lost = [one for one in posted if one.address == jobs.address and one.job not in alive]
    drop(store, lost)
    names = [f"job {id}" for id in alive]
    names += [f"run {run.run} on {run.holder.host}" for run in runs if run.job not in alive]
    names += [f"job {one.job}" for one in posted if one not in lost and one.job not in alive]
    if names:
        at = f"--store {shlex.quote(store.uri)}"
        raise UsageError(
            f"{sweep} is running already ({', '.join(names)}). See it with: raylottery status "
            f"{sweep} {at}; end it with: raylottery cancel {sweep} {at}"
        )
