"""What people see before anything runs: help, version, refusals, and how fast they come.

The golden pages change only by REGOLD=1: a changed page is a changed contract.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from raylottery import __version__
from raylottery.cli import COMMANDS


GOLDEN = Path(__file__).parent / "golden"
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "FORCE_COLOR": "", "PYTHONIOENCODING": "utf-8"}
HEAVY = ("ray", "torch", "pandas", "numpy", "pyarrow", "pydantic")


@pytest.mark.parametrize("command", ["raylottery", *COMMANDS])
def test_help_is_as_agreed(raylottery, command):
    words = [] if command == "raylottery" else [command]
    shown = raylottery(*words, "--help", **PLAIN)
    assert (shown.returncode, shown.stderr) == (0, "")
    page = GOLDEN / f"{command}.txt"
    if os.environ.get("REGOLD") == "1":
        page.write_text(shown.stdout, encoding="utf-8")
    assert shown.stdout == page.read_text(encoding="utf-8")


def test_every_golden_page_has_a_command():
    assert {page.stem for page in GOLDEN.iterdir()} == {"raylottery", *COMMANDS}


def test_nothing_said_shows_the_help(raylottery):
    assert raylottery(**PLAIN).stdout == (GOLDEN / "raylottery.txt").read_text(encoding="utf-8")


def test_version(raylottery):
    told = raylottery("--version")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    "code",
    [
        "import raylottery",
        "from raylottery.cli import main; assert main(['--help']) == 0",
        "from raylottery.cli import main; assert main(['run', '--help']) == 0",
    ],
)
def test_help_loads_nothing_heavy(code):
    """The modules that a fresh interpreter has loaded afterwards."""
    tell = "import json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "raylottery" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_an_interrupt_while_the_command_is_loaded_shows_no_traceback():
    code = """
import importlib.abc, runpy, sys

class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "raylottery.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
runpy.run_module("raylottery", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "raylottery: interrupted\n")


@pytest.mark.parametrize("words", [["-c", "import raylottery"], ["-m", "raylottery", "--help"]])
def test_help_takes_a_blink(tmp_path, words):
    """CPU time of the process once its bytecode is cached, the least of five."""
    env = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    seconds = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, env=env, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds[1:]) < 0.3


@pytest.mark.parametrize(
    ("words", "message", "see"),
    [
        ("frobnicate", 'Unknown command "frobnicate".', ""),
        ("statis", 'Did you mean "status"?', ""),
        ("--frobnicate", "frobnicate", ""),
        ("run sweep.yaml --frobnicate", "Unknown option: --frobnicate.", "run "),
        ("status name --stroe x", "Did you mean --store?", "status "),
        ("plan", "nothing is given for SWEEP. (The sweep file.)", "plan "),
        ("compare name", "say what to compare: --by prune.scope, or --reference", "compare "),
        ("compare --by x", "nothing is given for NAMES. (One sweep or more.)", "compare "),
        ("ticket name lineage --to x", "nothing is given for ROUND. (The round;", "ticket "),
        ("ticket name lineage one --to x", 'ROUND: unable to convert "one" into int', "ticket "),
        ("analyse name", "nothing is given for KIND. (connectivity, overlap", "analyse "),
        ("export name", "nothing is given for --to. (The file to write", "export "),
        ("play name lineage", "nothing is given for ROUND. (The round;", "play "),
        ("play name lineage 1 --episodes few", "--episodes: unable to convert", "play "),
        ("ls --store", "nothing is given for --store. (Where results live", "ls "),
        ("run sweep.yaml more", "one word too many: more", "run "),
        ("run sweep.yaml --max-concurrent x", "--max-concurrent: unable to conv", "run "),
        ("run sweep.yaml --only done", 'Choose from: "failed".', "run "),
    ],
)
def test_a_wrong_command_line_is_refused(capsys, monkeypatch, tmp_path, words, message, see):
    """One message with the mend, exit code 2, nothing printed as a result, nothing written."""
    from raylottery.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("raylottery: ")
    assert message in err
    assert err.endswith(f"\nSee: raylottery {see}--help\n")
    assert len(err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_reaches_the_shell(raylottery, tmp_path):
    refused = raylottery("statis", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 2
