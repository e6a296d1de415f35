"""Lineages that are trained side by side in this process, by the engine that can."""

from __future__ import annotations

from contextlib import closing

import pytest

from raylottery.cli import main
from raylottery.spec import parse_sweep
from raylottery.trainers import make_trainer
from tests.e2e.conftest import TINY


COMPILED = TINY.replace("{kind: classifier", "{kind: classifier, engine: compiled")
AGENTS = """
name: tiny
trainer: {kind: dqn, env: CartPole-v1, hidden: [8], length: 2000ts}
prune: {fraction: 0.5, rounds: 1}
seeds: [0]
"""


def test_the_tables_are_the_same_on_one_thread_and_on_three(tmp_path, run_inline, table, fixed):
    for folder, changes in (
        ("alone", ("cohort=1",)),
        ("together", ("resources.cpus=3",)),
        ("by twos", ("resources.cpus=2", "cohort=2")),
    ):
        result = run_inline(tmp_path / folder, *changes, text=COMPILED)
        assert result.exit_code == 0
        for name in ("rounds", "curves", "layers"):
            expected = fixed(table(tmp_path / "alone", name))
            assert fixed(table(tmp_path / folder, name)) == expected, name


def test_plan_says_how_lineages_are_grouped(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(COMPILED)
    words = ["plan", f"{tmp_path}/tiny.yaml", "--store", f"{tmp_path}/s"]
    for change, line in (
        (
            "resources.cpus=2",
            "an even share of the lineages that are ready, 2 at a time",
        ),
        ("cohort=3", "each trial trains 3 lineages, 1 at a time"),
        ("cohort=1", None),
        ("trainer.engine=torch", None),
    ):
        assert main([*words, "--set", change]) == 0
        said = capsys.readouterr().out
        assert ("each trial trains" in said) == (line is not None)
        assert line is None or line in said


@pytest.mark.parametrize(
    ("text", "engine"), [(TINY, "torch"), (TINY, "compiled"), (AGENTS, "compiled")]
)
def test_who_may_train_side_by_side_says_so_in_the_spec_too(text, engine):
    study = parse_sweep(text, overrides=[f"trainer.engine={engine}"])
    with closing(make_trainer(study, gpu=False)) as trainer:
        assert trainer.threads is study.trainer.side_by_side
