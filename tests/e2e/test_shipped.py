"""Every shipped sweep runs."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_trains_two_rounds(path, tmp_path, run_inline, table):
    result = run_inline(tmp_path, "prune.rounds=2", "seeds=[0]", text=path.read_text())
    assert result.exit_code == 0
    rows = table(tmp_path, sweep=path.stem)
    assert {row["round"] for row in rows} == {0, 1, 2}
    assert {row["lineage"] for row in rows} == {line.id for line in result.plan.lineages}
    assert all(row["revived"] == 0 for row in rows)
