"""Every shipped sweep of agents runs on RLlib in the short form that its header names."""

from __future__ import annotations

import pytest

from raylottery.cli.progress import Diary
from raylottery.driver.run import run
from raylottery.spec import parse_sweep
from raylottery.store import Store
from tests.shipped import AGENTS, short_form


pytestmark = pytest.mark.usefixtures("local_ray")
ON_RLLIB = "trainer.engine=rllib"


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_the_short_form_of_every_shipped_sweep_trains_two_rounds(path, tmp_path, rows):
    text = path.read_text()
    sweep = parse_sweep(text, file=path.name, overrides=[*short_form(text), ON_RLLIB])
    watcher = Diary(say=lambda line: None)
    result = run(sweep, Store.open(str(tmp_path)), watcher, inline=True)
    assert result.exit_code == 0, result.failures
    table = rows(tmp_path, sweep.name)
    assert {row["round"] for row in table} == {0, 1, 2}
    assert {row["lineage"] for row in table} == {line.id for line in result.plan.lineages}
    assert all(row["revived"] == 0 for row in table)
