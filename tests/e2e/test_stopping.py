"""A stop rule ends the search for the next ticket, and nothing else unless asked to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from raylottery.driver.plan import make_plan
from raylottery.lineage import begin
from raylottery.pruning import prune
from raylottery.spec import lineages, parse_sweep
from raylottery.store import Store
from raylottery.store.tickets import unpack
from raylottery.tickets import harvest
from raylottery.trainers import make_trainer
from tests.e2e.conftest import TINY


TARGET = "stop={rule: target, threshold: 0.25}"
AT_STOP = "stop={rule: target, threshold: 0.25, evaluate: at-stop}"
SETTLED = "stop={rule: mask-distance, window: 2, within: 0.5}"


def where_reached(curves: list[dict], row: dict, threshold: float = 0.25) -> int | None:
    """The first step of a row's curve at which the validation accuracy reaches the threshold."""
    ids = ("lineage", "round", "control")
    return min(
        (
            point["step"]
            for point in curves
            if all(point[name] == row[name] for name in ids)
            and (point["split"], point["metric"]) == ("valid", "accuracy")
            and point["value"] >= threshold
        ),
        default=None,
    )


def of_tickets(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["control"] == "ticket"]


def test_rows_say_where_a_rule_ended_the_search(tmp_path, run_inline, table):
    assert run_inline(tmp_path, TARGET).exit_code == 0
    rows, curves = table(tmp_path), table(tmp_path, "curves")
    for row in of_tickets(rows):
        reached = where_reached(curves, row)
        assert row["stop_step"] == reached
        assert row["stopped_by"] == ("length" if reached is None else "target")
    assert any(row["stop_step"] not in (None, 70) for row in of_tickets(rows))
    assert {row["steps"] for row in rows} == {70}, "the training goes on to its full length"


def test_controls_are_never_stopped(tmp_path, run_inline, table):
    run_inline(tmp_path, AT_STOP)
    rows, curves = table(tmp_path), table(tmp_path, "curves")
    controls = [row for row in rows if row["control"] != "ticket"]
    assert any(where_reached(curves, row) for row in controls), "or nothing is shown here"
    assert {(row["stopped_by"], row["stop_step"], row["steps"]) for row in controls} == {
        ("length", None, 70)
    }


@pytest.mark.parametrize("stop", [TARGET, AT_STOP, SETTLED], ids=["full", "at-stop", "settled"])
def test_the_next_ticket_is_drawn_from_the_weights_at_the_stop(tmp_path, run_inline, stop):
    changes = ("trainer.length=4ep", "axes={}", "seeds=[0]", stop)
    assert run_inline(tmp_path, *changes).exit_code == 0
    store = Store.open(str(tmp_path))
    [lineage] = lineages(parse_sweep(TINY, overrides=changes))
    trainer = make_trainer(lineage.arm.study, gpu=False)
    tickets = [round for round in lineage.rounds if round.control == "ticket"]
    for before, after in pairwise(tickets):
        record = store.record(before.key)
        assert record is not None
        assert record.result["stop_step"] is not None
        sections, _ = unpack(store.read_file(record, "ticket.safetensors"))
        stopped, masks = harvest(before.key, store)
        assert stopped.keys() == sections["stopped"].keys()
        assert all(stopped[name].equal(sections["stopped"][name]) for name in stopped)

        def drawn(weights, masks=masks):
            return prune(
                weights, masks, lineage.arm.study.prune, trainer.prunable(biases=False), seed=0
            )

        ticket = begin(after, trainer, store, {}).ticket
        assert ticket.masks == drawn(stopped) == harvest(after.key, store)[1]
        assert ticket.masks.nested_in(masks)
        ended = record.result["stop_step"] == record.result["steps"]
        assert (ticket.masks == drawn(sections["trained"])) == ended


def test_evaluated_at_the_stop_a_round_ends_there(tmp_path, run_inline, table):
    assert run_inline(tmp_path / "full", TARGET, "prune.rounds=1").exit_code == 0
    assert run_inline(tmp_path / "stop", AT_STOP, "prune.rounds=1").exit_code == 0
    full, stop = (
        {
            (row["arm_label"], row["seed"], row["round"]): row
            for row in of_tickets(table(tmp_path / name))
        }
        for name in ("full", "stop")
    )
    curves = table(tmp_path / "stop", "curves")
    assert full.keys() == stop.keys()
    for place, row in stop.items():
        whole = full[place]
        assert row["stop_step"] == whole["stop_step"]
        assert row["steps"] == (row["stop_step"] or 70)
        assert row["score_at_stop"] == whole["score_at_stop"]
        if row["stop_step"] is not None:
            assert row["score"] == row["score_at_stop"]
        last = max(
            point["step"]
            for point in curves
            if (point["lineage"], point["round"], point["control"])
            == (row["lineage"], row["round"], "ticket")
        )
        assert last == row["steps"]
    assert any(row["steps"] < 70 for row in stop.values())


def test_a_rule_that_looks_at_masks_has_a_dense_round_for_each_way_to_draw_them(
    tmp_path, run_inline, table
):
    result = run_inline(tmp_path, SETTLED, "trainer.length=4ep")
    assert result.exit_code == 0
    rows = table(tmp_path)
    dense = [row for row in rows if row["round"] == 0]
    assert len({row["key"] for row in dense}) == len(dense) == 4
    assert len(result.ledger.trained) == 4 * (1 + 2 * 2)
    for row in of_tickets(rows):
        assert row["stop_step"] in (None, 70, 105, 140), "ends of epochs, from the second on"
        assert row["stopped_by"] == ("length" if row["stop_step"] is None else "mask-distance")
    assert any(row["stop_step"] for row in dense)


def test_a_rule_that_looks_at_measurements_shares_the_dense_rounds():
    solved = parse_sweep(TINY, overrides=("stop={rule: solved, threshold: 0.25}",))
    plan = make_plan(solved, None)
    dense = {line.rounds[0].key for line in plan.lineages}
    assert len(dense) == 2, "one a seed, for both scopes"


def test_another_threshold_trains_everything_anew_and_no_rule_shares_with_none(
    tmp_path, run_inline
):
    """What a rule ends is part of what a round is, even of the dense one."""
    run_inline(tmp_path, TARGET)
    for rule in ("{rule: target, threshold: 0.26}", "{rule: length}"):
        other = make_plan(
            parse_sweep(TINY, overrides=(f"stop={rule}",)), Store.existing(str(tmp_path))
        )
        assert len(other.todo) == 2 + 4 * 2 * 2
    assert not run_inline(tmp_path, TARGET).ledger.trained


def test_a_rewind_point_beyond_the_end_of_a_stopped_dense_round_is_refused(tmp_path, run_inline):
    """There are no such weights. Before the stop there are, and they can be made again."""
    changes = (AT_STOP, "axes={}", "seeds=[0]", "prune.rounds=1")
    run_inline(tmp_path, *changes)
    early = run_inline(tmp_path, *changes, "name=early", "rewind.weights=3it")
    assert early.exit_code == 0
    late = run_inline(tmp_path, *changes, "name=late", "rewind.weights=69it")
    [failure] = late.failures.values()
    assert "rewind earlier" in failure


def test_sparser_rounds_may_be_shorter(tmp_path, run_inline, table):
    assert run_inline(tmp_path, "stop={length_power: 1}", "prune.rounds=3").exit_code == 0
    rows = table(tmp_path)
    for row in rows:
        assert row["steps"] == round(70 * (1 - 0.5) ** row["round"])
        assert row["stopped_by"] == "length"
    assert {row["steps"] for row in rows} == {70, 35, 18, 9}
