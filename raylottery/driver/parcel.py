"""What travels to a cluster with a job: the sweep, and where asked raylottery itself.

- `image`: nothing more. raylottery is installed on every machine of the cluster.
- `wheel`: the files of this raylottery, first on the path of the job's processes. Everything it
  stands on is installed there.
- `uv`: a wheel of this raylottery and a project that pins the versions of this environment;
  `uv run` makes an environment of them on each machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import shutil
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Literal

import raylottery
from raylottery import __version__
from raylottery.errors import UsageError
from raylottery.spec import Sweep, dump_sweep


Env = Literal["image", "wheel", "uv"]

PACKAGE = Path(raylottery.__file__).parent
WHEEL = f"raylottery-{__version__}-py3-none-any.whl"
SWEEP = "sweep.yaml"
PROJECT = """\
[project]
name = "raylottery-job"
version = "0"
requires-python = "=={python}"
dependencies = ["raylottery"]

[tool.uv]
package = false
environments = ["sys_platform == 'linux'"]
constraint-dependencies = {pins}

[tool.uv.sources]
raylottery = {{ path = "{wheel}" }}
"""


def pack(folder: Path, sweep: Sweep, env: Env) -> None:
    """Put into an empty folder what a job is to find in its own."""
    (folder / SWEEP).write_text(dump_sweep(sweep), encoding="utf-8")
    if env == "wheel":
        shutil.copytree(
            PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__")
        )
    if env == "uv":
        write_wheel(folder / WHEEL)
        text = PROJECT.format(
            python=platform.python_version(), pins=json.dumps(pins(), indent=2), wheel=WHEEL
        )
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def python(env: Env) -> list[str]:
    """The words that start Python on the head."""
    if env == "uv":
        return ["uv", "run", "--python", platform.python_version(), "python"]
    return ["python"]


def variables(env: Env) -> dict[str, str]:
    """What the job's processes need to be told about their environment."""
    # Under `uv run`, Ray starts its workers by it too, if this does not say otherwise.
    return {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1" if env == "uv" else "0"}


def pins() -> list[str]:
    """The versions of this environment; what marks a build, as in 2.9.0+cpu, is left out."""
    found = {one.name: one.version.partition("+")[0] for one in distributions() if one.name}
    return sorted(f"{name}=={version}" for name, version in found.items() if name != "raylottery")


def write_wheel(file: Path) -> None:
    """A wheel of the raylottery that runs here, however it was installed."""
    try:
        installed = distribution("raylottery")
    except PackageNotFoundError as error:
        raise UsageError(
            "--env uv: raylottery is not installed here, so nobody knows what it needs. Install "
            "it (pip install .), or submit with --env wheel"
        ) from error
    about = f"raylottery-{__version__}.dist-info"
    members = {
        str(path.relative_to(PACKAGE.parent)): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    members[f"{about}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    members[f"{about}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    members[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: raylottery\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [f"{name},sha256={digest(data)},{len(data)}" for name, data in members.items()]
    members[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in members.items():
            wheel.writestr(name, data)


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
