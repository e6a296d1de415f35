"""`plan` answers quickly: it loads nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.conftest import TINY


HEAVY = {"ray", "torch", "torchvision", "numba", "pandas", "pyarrow", "scipy", "matplotlib"}
LARGE = TINY.replace("[0, 1]", str(list(range(40))))
AGENTS = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [8], length: 2000ts}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1]
"""
CODE = """
import json, sys
from raylottery.cli import main
assert main(sys.argv[1:]) == 0
print(json.dumps(sorted(sys.modules)))
"""


def loaded(folder, text: str, *words: str) -> set[str]:
    """The modules of a fresh process that planned a sweep."""
    (folder / "sweep.yaml").write_text(text)
    command = [sys.executable, "-c", CODE, "plan", "sweep.yaml", "--store", "store", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    assert "to train" in done.stdout or words
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("text", [LARGE, AGENTS], ids=["classifiers", "agents"])
@pytest.mark.parametrize("engine", ["", "engine: compiled, "])
def test_a_sweep_of_dense_layers_is_planned_without_anything_heavy(tmp_path, text, engine):
    text = text.replace("length: ", f"{engine}length: ")
    assert loaded(tmp_path, text) & HEAVY == set()


def test_a_sweep_that_is_half_done_is_planned_without_anything_heavy(tmp_path, run_inline):
    run_inline(tmp_path / "store", "seeds=[0]", "keep=last")
    assert loaded(tmp_path, LARGE.replace("controls: [random-ticket]", "")) & HEAVY == set()
    assert loaded(tmp_path, TINY, "--set", "keep=all", "--json") & HEAVY == set()


def test_what_torch_alone_can_make_loads_torch_and_no_more(tmp_path):
    """So the modules are those of the process that planned."""
    text = TINY.replace("mnist1d", "cifar-like").replace("mlp-12", "cnn-4")
    assert loaded(tmp_path, text) & HEAVY == {"torch"}
