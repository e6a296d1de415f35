"""Shuffled data in a sweep file: of a whole study, or of a control."""

from __future__ import annotations

import pytest

from raylottery.spec import lineage_rounds
from tests.unit.spec.samples import AGENT, STUDY, alone, altered, refusal


KINDS = ("shuffled-pixels", "shuffled-labels")


def keys(*sets: str) -> list[str]:
    return [round.key for round in lineage_rounds(alone(*sets), 0)]


def test_a_study_of_shuffled_data_has_keys_of_its_own():
    told = [
        ("trainer.shuffle=none",),
        ("trainer.shuffle=pixels",),
        ("trainer.shuffle=labels",),
        ("trainer.shuffle=labels", "trainer.shuffle_seed=1"),
    ]
    assert keys(*told[0]) == keys()
    assert len({tuple(keys(*sets)) for sets in told}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_leaves_the_tickets_keys_and_says_what_it_shuffles(kind):
    rounds = lineage_rounds(alone(f"controls=[{{kind: {kind}, draws: 2}}]"), 0)
    controls = [round for round in rounds if round.control == kind]
    assert [round.key for round in rounds if round.control == "ticket"] == keys()
    assert [(round.index, round.draw) for round in controls] == [
        (index, draw) for index in (1, 2, 3) for draw in (0, 1)
    ]
    assert {round.shuffles for round in controls} == {kind.removeprefix("shuffled-")}
    assert all(round.shuffles is None for round in rounds if round.control == "ticket")
    assert {(r.mask_source, r.weight_source, r.lineage_mode) for r in controls} == {
        ("imp", "init", "branch")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_has_no_data_to_shuffle(kind):
    refused = refusal(altered(("[random-ticket]", f"[{kind}]"), text=AGENT))
    text = f"study.yaml:22: controls[0]: {kind} shuffles a data set, and an agent has none; take "
    assert refused == [f"{text}another control."]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shuffled_already_is_shuffled_by_no_control(kind):
    pairs = (("[random-ticket]", f"[{kind}]"), ("  lr: 0.002", "  lr: 0.002\n  shuffle: labels"))
    assert refusal(altered(*pairs)) == [
        f"study.yaml:17: controls[0]: {kind} shuffles the data, and trainer.shuffle: labels does "
        f"so already; leave one of them out."
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("shuffle: pixel", "shuffle: no such value: 'pixel'. Did you mean 'pixels'?"),
        ("shuffle_seed: 1", "shuffle_seed: means nothing without shuffle; leave it out."),
        ("shuffle: labels\n  shuffle_seed: -1",
         "shuffle_seed: must be at least 0, not -1. (What they are shuffled by.)"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(said, message):
    [line] = refusal(altered(("  lr: 0.002", f"  lr: 0.002\n  {said}")))
    assert line.partition(": ")[2] == f"trainer.{message}"


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_no_lineage_of_its_own(kind):
    [line] = refusal(altered(("[random-ticket]", f"[{{kind: {kind}, lineage: own}}]")))
    assert line.endswith("so it branches; leave it out, or say branch.")


def test_an_agent_has_no_such_field():
    [line] = refusal(altered(("  lr: 0.001", "  lr: 0.001\n  shuffle: labels"), text=AGENT))
    assert "trainer.shuffle: no such field" in line
    assert "shuffle" not in STUDY
