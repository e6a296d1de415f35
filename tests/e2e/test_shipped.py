"""Every shipped sweep runs: classifiers here, agents under tests/ray, for RLlib needs a Ray."""

from __future__ import annotations

import pytest

from raylottery.driver.plan import inspect, make_plan
from raylottery.spec import parse_sweep
from tests.conftest import SHIPPED


CLASSIFIERS = [path for path in SHIPPED if "kind: classifier" in path.read_text()]


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_every_shipped_sweep_trains_two_rounds(path, tmp_path, run_inline, table):
    result = run_inline(tmp_path, "prune.rounds=2", "seeds=[0]", text=path.read_text())
    assert result.exit_code == 0
    rows = table(tmp_path, sweep=path.stem)
    assert {row["round"] for row in rows} == {0, 1, 2}
    assert {row["lineage"] for row in rows} == {line.id for line in result.plan.lineages}
    assert all(row["revived"] == 0 for row in rows)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_passes_the_door_whole(path):
    """Its environment exists, and its network has weights for all of its rounds."""
    plan = make_plan(parse_sweep(path.read_text(), file=path.name), None)
    inspect(plan)
    assert plan.sweep.name == path.stem
    assert plan.todo
