"""Every shipped sweep runs: here on the engines that need no Ray, agents on RLlib in tests/ray."""

from __future__ import annotations

import pytest

from raylottery.driver.plan import Plan, inspect, make_plan
from raylottery.errors import UsageError
from raylottery.spec import Arm, parse_sweep
from raylottery.trainers.classifier.packed import GENERATED
from raylottery.trainers.survey import refuse_too_deep, survey
from tests.shipped import SHIPPED, WITHOUT_RAY, short_form


SHORT_ENOUGH = ("quickstart", "smoke")


def arms(plan: Plan) -> list[Arm]:
    return list({line.arm.id: line.arm for line in plan.lineages}.values())


@pytest.mark.parametrize("path", WITHOUT_RAY, ids=lambda path: path.stem)
def test_every_shipped_sweep_trains_two_rounds(path, tmp_path, run_inline, table):
    """In the short form that its header names, which has all of its arms and controls."""
    text = path.read_text()
    brief = path.stem in SHORT_ENOUGH
    changes = ["prune.rounds=2", "seeds=[0]"] if brief else short_form(text)
    result = run_inline(tmp_path, *changes, text=text)
    assert result.exit_code == 0, result.failures
    rows = table(tmp_path, sweep=result.plan.sweep.name)
    assert {row["round"] for row in rows} == {0, 1, 2}
    assert {row["lineage"] for row in rows} == {line.id for line in result.plan.lineages}
    assert all(row["revived"] == 0 for row in rows)
    whole = make_plan(parse_sweep(text), None)
    assert len(arms(result.plan)) == len(arms(whole))
    assert {row["control"] for row in rows} == {
        "ticket",
        *(control.kind for control in whole.sweep.controls),
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_passes_the_door_whole(path):
    """Its environment exists, and its network has weights for all of its rounds.

    No test downloads anything: a sweep whose data are published is refused for them alone.
    """
    plan = make_plan(parse_sweep(path.read_text(), file=path.name), None)
    assert plan.sweep.name == path.stem
    assert plan.todo
    dataset = getattr(plan.sweep.trainer, "dataset", None)
    if dataset is None or dataset in GENERATED:
        inspect(plan)
        return
    with pytest.raises(UsageError, match=f"raylottery doctor --fetch {dataset}"):
        inspect(plan)
    for arm in arms(plan):
        refuse_too_deep(arm.study, survey(arm.study))
