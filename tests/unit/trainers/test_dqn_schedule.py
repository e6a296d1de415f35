"""The learning rate and exploration of a round: at its clock, at its start, or over."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylottery.spec import DQNTrainer, Reset
from raylottery.trainers.base import Previous, Start, Ticket
from raylottery.trainers.dqn.schedule import Schedule


WHERE = ("clock", "start", "end")
TICKET = Ticket(weights={}, masks=None, unmasked={})  # ty: ignore[invalid-argument-type]


def schedule(
    clock: int = 0,
    *,
    lr: str = "clock",
    exploration: str = "clock",
    length: int = 100,
    dense: bool = False,
    **fields,
) -> Schedule:
    """Of 100 updates: the learning rate falls from 1 to 0.2, exploration to 0.1 within 40."""
    spec = {
        "kind": "dqn", "env": "x", "length": "100it", "lr": 1.0, "lr_end": 0.2,
        "epsilon_end": 0.1, "epsilon_decay": "40%", **fields,
    }  # fmt: skip
    start = Start(
        ticket=TICKET,
        data_seed=1,
        trunk_seed=1,
        clock=clock,
        end=max(length, clock + 20),
        length=length,
        previous=None if dense else Previous(weights={}, carried={}),
        searching=False,
        next_masks=None,
    )
    reset = Reset.model_validate({"lr": lr, "exploration": exploration})
    return Schedule(DQNTrainer.model_validate(spec), reset, start)


def lrs(schedule: Schedule, *steps: int) -> list[float]:
    return schedule.lrs(np.array(steps)).tolist()


def epsilons(schedule: Schedule, *steps: int) -> list[float]:
    return schedule.epsilons(np.array(steps)).tolist()


@pytest.mark.parametrize(("lr", "exploration"), [*itertools.product(WHERE, WHERE)])
def test_the_dense_round_goes_by_its_clock_whatever_is_reset(lr, exploration):
    dense = schedule(dense=True, lr=lr, exploration=exploration)
    assert lrs(dense, 0, 25, 50, 100) == pytest.approx([1, 0.8, 0.6, 0.2])
    assert epsilons(dense, 0, 20, 40, 100) == pytest.approx([1, 0.55, 0.1, 0.1])


def test_a_pruned_round_from_the_start_goes_like_the_dense_one():
    for values in (lrs, epsilons):
        assert values(schedule(), *range(101)) == values(schedule(dense=True), *range(101))


def test_at_the_clock_a_schedule_goes_on_where_its_weights_come_from():
    assert lrs(schedule(25), 25, 50, 100) == pytest.approx([0.8, 0.6, 0.2])
    assert epsilons(schedule(10), 10, 20, 40) == pytest.approx([0.775, 0.55, 0.1])


def test_at_its_start_a_schedule_goes_as_far_as_the_round_is_long():
    assert lrs(schedule(25, lr="start"), 25, 75, 100) == pytest.approx([1, 0.6, 0.4])
    late = schedule(80, exploration="start")
    assert epsilons(late, 80, 90, 100) == pytest.approx([1, 0.775, 0.55])


def test_at_its_end_a_schedule_is_over_at_once():
    assert lrs(schedule(25, lr="end"), 25, 60, 100) == pytest.approx([0.2] * 3)
    assert epsilons(schedule(25, exploration="end"), 25, 60, 100) == pytest.approx([0.1] * 3)


def test_one_schedule_is_reset_without_the_other():
    over = schedule(20, lr="end")
    assert epsilons(over, 20, 30) == epsilons(schedule(20), 20, 30)
    over = schedule(20, exploration="end")
    assert lrs(over, 20, 30) == lrs(schedule(20), 20, 30)


@given(step=st.integers(0, 50), where=st.sampled_from(WHERE))
def test_a_shorter_round_goes_through_all_of_its_schedules(step, where):
    whole = schedule(lr=where, exploration=where)
    short = schedule(lr=where, exploration=where, length=50)
    for values in (lrs, epsilons):
        assert values(short, step) == pytest.approx(values(whole, 2 * step))


def test_fine_tuning_past_the_end_stays_at_the_end():
    assert lrs(schedule(100), 100, 110, 120) == pytest.approx([0.2] * 3)
    assert epsilons(schedule(100), 100, 110, 120) == pytest.approx([0.1] * 3)
    assert lrs(schedule(100, lr="end"), 100, 120) == pytest.approx([0.2] * 2)


def test_fine_tuning_may_begin_its_schedules_again():
    again = schedule(100, lr="start", exploration="start")
    assert lrs(again, 100, 110, 120) == pytest.approx([1, 0.92, 0.84])
    assert epsilons(again, 100, 110, 120) == pytest.approx([1, 0.775, 0.55])


@pytest.mark.parametrize("decay", ["40%", "40it", "80ts"])
def test_a_decay_is_one_stretch_in_whatever_unit(decay):
    found = schedule(epsilon_decay=decay, rollout=8, updates=4)
    assert epsilons(found, 0, 20, 40) == pytest.approx([1, 0.55, 0.1])


def test_without_decay_exploration_is_at_its_end_from_the_first_step():
    assert epsilons(schedule(epsilon_decay="0it"), 0, 1, 100) == pytest.approx([0.1] * 3)
    assert epsilons(schedule(epsilon_decay="0it", dense=True), 0) == pytest.approx([0.1])


def test_a_learning_rate_that_keeps_its_height_is_exactly_that():
    """Or its last bits would change with the step."""
    flat = schedule(lr_end=1.0)
    assert set(lrs(flat, *range(0, 101, 7))) == {1.0}


@given(
    clock=st.integers(0, 120),
    length=st.integers(20, 100),
    lr=st.sampled_from(WHERE),
    exploration=st.sampled_from(WHERE),
)
def test_both_fall_and_stay_between_their_ends(clock, length, lr, exploration):
    found = schedule(clock, lr=lr, exploration=exploration, length=length)
    for values, least in (
        (lrs(found, *range(clock, clock + 40)), 0.2),
        (epsilons(found, *range(clock, clock + 40)), 0.1),
    ):
        assert values == sorted(values, reverse=True)
        assert all(least - 1e-12 <= value <= 1 for value in values)
