"""The learning rate at each step is what the definition says, wherever a clock starts."""

from __future__ import annotations

import math

import pytest

from raylottery.spec import ClassifierTrainer, lineage_rounds, parse_sweep
from raylottery.trainers.classifier.schedule import Schedule


def schedule(length: int = 100, **fields) -> Schedule:
    spec = ClassifierTrainer.model_validate(
        {"kind": "classifier", "dataset": "mnist1d", "model": "mlp-4", "length": "100it",
         "batch_size": 100, "lr": 0.5, **fields}
    )  # fmt: skip
    return Schedule(spec, length)


def rates(length: int = 100, **fields) -> list[float]:
    made = schedule(length, **fields)
    return [made.lr(step) for step in range(length)]


def test_a_constant_rate_is_constant():
    assert set(rates()) == {0.5}


def test_drops_multiply_the_rate_from_their_step_on():
    found = rates(schedule="drops", drops=["50it", "75%"], drop_factor=0.1)
    assert found == pytest.approx([0.5] * 50 + [0.05] * 25 + [0.005] * 25)


def test_a_cosine_goes_from_full_to_nearly_nothing():
    found = rates(schedule="cosine")
    expected = [0.25 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]
    assert found == pytest.approx(expected)


def test_a_triangle_rises_to_its_height_in_the_middle_and_falls():
    found = rates(schedule="triangular")
    assert found == pytest.approx(found[::-1])
    assert max(found) == pytest.approx(0.5 * 0.99)
    assert found[:50] == sorted(found[:50])
    assert found[0] == pytest.approx(0.5 * 0.01)


def test_a_warmup_climbs_linearly_and_the_schedule_follows_it():
    found = rates(schedule="cosine", warmup="20it")
    assert found[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    rest = [0.25 * (1 + math.cos(math.pi * step / 80)) for step in range(80)]
    assert found[20:] == pytest.approx(rest)


def test_drops_keep_their_places_after_a_warmup():
    found = rates(schedule="drops", drops=["50it"], warmup="10it")
    assert found[49] == 0.5
    assert found[50] == pytest.approx(0.05)


def test_past_the_end_the_last_rate_stays():
    """Fine-tuning goes on at the last learning rate."""
    made = schedule(schedule="drops", drops=["50it"])
    assert made.lr(100) == made.lr(250) == made.lr(99) == pytest.approx(0.05)


def test_a_shorter_training_has_the_same_schedule_shrunk():
    found = rates(length=50, schedule="drops", drops=["50it"], warmup="10it")
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[24] == 0.5
    assert found[25] == pytest.approx(0.05)


STAIRS = [0.1] * 50 + [0.01] * 30 + [0.001] * 20
"""The rates of the dense training, step by step."""


@pytest.mark.parametrize(
    ("rewind", "expected"),
    [
        ("weights: init", STAIRS),
        ("weights: 20it", STAIRS[20:]),  # weight rewinding
        ("weights: final, clock: init", STAIRS),  # learning-rate rewinding, to the start
        ("weights: final, clock: 60it", STAIRS[60:]),  # or into the schedule
        ("weights: init, clock: 60it", STAIRS[60:]),  # the weights alone go further back
        ("weights: final, retrain: 30it", [0.001] * 30),  # fine-tuning
        ("weights: final, retrain: 0it", []),
    ],
)
def test_each_way_to_rewind_trains_at_the_rates_of_its_definition(rewind, expected):
    sweep = parse_sweep(
        "name: s\ntrainer: {kind: classifier, dataset: mnist1d, model: mlp-4, length: 100it, "
        "batch_size: 100, lr: 0.1, schedule: drops, drops: [50it, 80it]}\n"
        f"prune: {{fraction: 0.5, rounds: 1}}\nrewind: {{{rewind}}}\nseeds: [0]\n"
    )
    dense, pruned = lineage_rounds(sweep, 0)
    spec = sweep.trainer
    assert isinstance(spec, ClassifierTrainer)
    for round, wanted in ((dense, STAIRS), (pruned, expected)):
        made = Schedule(spec, round.length)
        found = [made.lr(step) for step in range(round.clock, round.end)]
        assert found == pytest.approx(wanted)
