"""The shell scripts and the Dockerfile, read by tools that know them; the batch file is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.conftest import ROOT
from tests.unit.cluster.test_clouds import RAY


CLUSTER = ROOT / "cluster"
SCRIPTS = ("local/settings.sh", "local/up", "local/node", "local/down", "slurm.sbatch")
INSTRUCTIONS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "COMMENT"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_and_shellcheck_find_nothing(script):
    path = CLUSTER / script
    subprocess.run(["bash", "-n", path], check=True)
    assert shellcheck(path) == ""


def shellcheck(path: Path) -> str:
    tool = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [tool, "--external-sources", "--source-path=SCRIPTDIR", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_shellcheck_finds_a_planted_mistake(tmp_path):
    text = (CLUSTER / "slurm.sbatch").read_text()
    broken = tmp_path / "slurm.sbatch"
    broken.write_text(text.replace('"$sweep" --store', "$sweep --store"))
    assert "SC2086" in shellcheck(broken)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_ends_what_it_did_not_start(script):
    code = re.sub(r"#.*", "", (CLUSTER / script).read_text())
    assert not re.search(r"ray stop|pkill|killall", code)


def test_what_is_started_is_executable():
    for script in ("local/up", "local/node", "local/down"):
        assert os.access(CLUSTER / script, os.X_OK)


STUB = """#!/bin/sh
"exec" "{python}" "$0" "$@"  # which Python reads as a text; a path in #! has no spaces
import json, os, subprocess, sys, time
with open({log!r}, "a") as log:
    print(json.dumps([{name!r}, *sys.argv[1:]]), file=log)
{body}
"""
SRUN = """
words = [w for w in sys.argv[1:]]
first = next(i for i, w in enumerate(words) if not w.startswith("-"))
os.execvp(words[first], words[first:])
"""
RAY_START = """
import signal, socket
def end(*_):
    with open({log!r}, "a") as log:
        print(json.dumps(["ended"]), file=log)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
if "--head" in sys.argv:
    [port] = [w.split("=")[1] for w in sys.argv if w.startswith("--port=")]
    listening = socket.create_server(("127.0.0.1", int(port)))
time.sleep(60)
"""
DRIVER = """
import signal
assert os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o077 == 0
assert len(open(os.environ["RAY_AUTH_TOKEN_PATH"]).read()) == 64
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
while open({log!r}).read().count('["ray", ') < 2:
    time.sleep(0.05)
if "--wait" in sys.argv:
    os.kill(os.getppid(), signal.SIGINT)  # as Slurm warns the script of the end
    time.sleep(30)
"""


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """An allocation of two nodes that is not one: each command notes how it was called."""
    log = tmp_path / "calls"
    bodies = {
        "srun": SRUN,
        "scontrol": 'print("node-a\\nnode-b")',
        "hostname": 'print("127.0.0.1 10.0.0.1")',
        "ray": RAY_START.replace("{log!r}", repr(str(log))),
        "raylottery": DRIVER.replace("{log!r}", repr(str(log))),
    }
    (tmp_path / "bin").mkdir()
    for name, body in bodies.items():
        stub = tmp_path / "bin" / name
        stub.write_text(STUB.format(python=sys.executable, log=str(log), name=name, body=body))
        stub.chmod(0o755)
    return {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_ON_NODE": "2",
    }


def batch(slurm: dict[str, str], *words: str) -> tuple[int, list[list[str]]]:
    """Exit code of the batch file, and the commands it called."""
    folder = Path(slurm["SLURM_SUBMIT_DIR"])
    done = subprocess.run(
        ["bash", CLUSTER / "slurm.sbatch", *words], env=slurm, timeout=50, check=False, cwd=folder
    )
    assert not list(folder.glob(".ray-*")), "the token is gone"
    return done.returncode, [*map(json.loads, (folder / "calls").read_text().splitlines())]


def test_the_batch_file_starts_a_node_of_ray_on_each_machine_and_ends_them(slurm):
    code, calls = batch(slurm, "sweep.yaml", "/store", "--max-concurrent", "3")
    assert code == 0
    head, node = [call for call in calls if call[0] == "ray"]
    assert "--head" in head
    assert "--port=21100" in head
    assert "--address=127.0.0.1:21100" in node
    for call in (head, node):
        assert {"--num-cpus=8", "--num-gpus=2", "--block"} <= set(call)
    [driver] = [call for call in calls if call[0] == "raylottery"]
    line = "run sweep.yaml --store /store --address 127.0.0.1:21100 --max-concurrent 3"
    assert " ".join(driver[1:]) == line
    assert calls.count(["ended"]) == 2
    placed = [word for call in calls if call[0] == "srun" for word in call if "nodelist" in word]
    assert placed[-2:] == ["--nodelist=node-a", "--nodelist=node-b"]


def test_slurms_warning_reaches_the_driver_and_its_exit_code_is_the_jobs(slurm):
    code, calls = batch(slurm, "sweep.yaml", "/store", "--wait")
    assert code == 130
    assert calls.count(["ended"]) == 2


def test_the_dockerfile_takes_this_ray_these_versions_and_what_is_there(tmp_path):
    parser = DockerfileParser(path=str(tmp_path))
    parser.content = (CLUSTER / "Dockerfile").read_text()
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    assert {instruction for instruction, _ in steps} <= INSTRUCTIONS
    assert parser.baseimage == f"rayproject/ray:{RAY}-py311-cpu"
    assert ("ARG", "DEVICE=cpu") in steps
    assert "EXPOSE" not in dict(steps)
    kept = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    for instruction, value in steps:
        if instruction == "COPY":
            for source in value.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in kept, source
    [run] = [value for instruction, value in steps if instruction == "RUN"]
    assert "--constraint constraints.txt" in run
    [version] = re.findall(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())
    assert f"uv=={version}" in run
