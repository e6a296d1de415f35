"""The replay buffer, its sum tree, and the sums of n rewards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn.replay import Assembler, Replay, SumTree, Transitions, stack


def buffer(capacity: int = 10, seed: int = 0, **fields) -> Replay:
    one = dict.fromkeys(("envs", "rollout", "batch_size", "learning_starts", "n_step"), 1)
    spec = {"kind": "dqn", "env": "x", "length": "10it", **one, "buffer": capacity, **fields}
    return Replay(DQNTrainer.model_validate(spec), seed)


def numbered(first: int, count: int) -> Transitions:
    """Transitions of which every field tells the number."""
    return stack(
        [
            (np.full(3, i), i % 5, i / 2, np.full(3, i + 1), i % 3 == 0, i % 4)
            for i in range(first, first + count)
        ],
        (3,),
        "float32",
    )


def same(a: Transitions, b: Transitions) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def numbers(transitions: Transitions) -> list[int]:
    return transitions["obs"][:, 0].astype(int).tolist()


# The buffer


def test_contents_are_given_oldest_first_and_whole():
    replay = buffer()
    replay.add(numbered(0, 4))
    replay.add(numbered(4, 3))
    assert replay.size == 7
    assert same(replay.contents(), numbered(0, 7))


def test_the_oldest_make_room():
    replay = buffer()
    for first in range(0, 24, 4):
        replay.add(numbered(first, 4))
    assert same(replay.contents(), numbered(14, 10))


@given(
    capacity=st.integers(1, 12),
    counts=st.lists(st.integers(0, 30), max_size=8),
    priority=st.sampled_from([0.0, 0.6]),
)
@settings(deadline=None)
def test_the_newest_are_there_however_they_came(capacity, counts, priority):
    """Also where one addition is more than the buffer holds, or none at all."""
    replay = buffer(capacity, priority=priority)
    total = 0
    for count in counts:
        replay.add(numbered(total, count))
        total += count
    held = min(total, capacity)
    assert replay.size == held
    if total:
        assert numbers(replay.contents()) == list(range(total - held, total))
    if priority:
        assert replay.priorities is not None
        assert replay.priorities.total == held, "a place has a priority once it is filled"


def test_what_is_drawn_is_there_and_every_field_belongs_together():
    replay = buffer(capacity=50)
    replay.add(numbered(0, 70))
    for batch in replay.draw(20, 16):
        assert batch["obs"].shape == (16, 3)
        assert all(20 <= number < 70 for number in numbers(batch))
        for i, number in enumerate(numbers(batch)):
            alone = numbered(number, 1)
            assert all(np.array_equal(batch[name][i], alone[name][0]) for name in alone)
        assert batch["weights"].dtype == np.float32
        assert (batch["weights"] == 1).all()


def test_places_not_filled_yet_are_never_drawn():
    replay = buffer(capacity=1000)
    replay.add(numbered(1, 3))
    drawn = [n for batch in replay.draw(20, 10) for n in numbers(batch)]
    assert set(drawn) == {1, 2, 3}


def test_all_are_drawn_alike():
    replay = buffer(capacity=10)
    replay.add(numbered(0, 10))
    drawn = [n for batch in replay.draw(100, 200) for n in numbers(batch)]
    counts = np.bincount(drawn, minlength=10)
    assert counts == pytest.approx(np.full(10, 2000), abs=5 * np.sqrt(20_000 * 0.09))


@pytest.mark.parametrize("priority", [0.0, 0.6])
def test_equal_seeds_draw_equal_batches(priority):
    def drawn(seed: int) -> list[Transitions]:
        replay = buffer(seed=seed, priority=priority)
        replay.add(numbered(0, 10))
        if priority:
            return [replay.draw_by_priority(8)[0] for _ in range(5)]
        return replay.draw(5, 8)

    first, second, other = drawn(1), drawn(1), drawn(2)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not all(same(a, b) for a, b in zip(first, other, strict=True))


def test_batches_are_the_same_however_many_are_drawn_at_a_time():
    """A training pauses to be measured, and must go on as if it had not."""
    together, apart = buffer(seed=3), buffer(seed=3)
    for replay in (together, apart):
        replay.add(numbered(0, 7))
    whole = together.draw(8, 5)
    parts = [*apart.draw(3, 5), *apart.draw(1, 5), *apart.draw(4, 5)]
    assert all(same(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_batch_is_no_view_of_the_buffer():
    replay = buffer(capacity=4)
    replay.add(numbered(0, 4))
    [batch] = replay.draw(1, 4)
    before = {name: part.copy() for name, part in batch.items()}
    contents = replay.contents()
    replay.add(numbered(100, 4))
    assert same(batch, before)
    assert same(contents, numbered(0, 4))


@pytest.mark.parametrize("priority", [0.0, 0.6])
@pytest.mark.parametrize("count", [6, 10, 27])
def test_contents_put_into_another_buffer_make_the_same_buffer(priority, count):
    replay = buffer(seed=4, priority=priority)
    replay.add(numbered(0, count))
    if priority:
        places = np.arange(min(count, 10))
        replay.reprioritise(places, 1.0 + places)
    again = buffer(seed=5, priority=priority)
    again.add(replay.contents())
    assert same(again.contents(), replay.contents())
    twice = buffer(seed=5, priority=priority)
    twice.add(again.contents())
    again.add(numbered(50, 3))
    twice.add(numbered(50, 3))
    assert same(again.contents(), twice.contents())
    if priority:
        for _ in range(3):
            (a, a_places), (b, b_places) = again.draw_by_priority(8), twice.draw_by_priority(8)
            assert same(a, b)
            assert np.array_equal(a_places, b_places)


def test_bytes_stay_bytes():
    frames = stack([(np.full((1, 2, 2), 255), 0, 1.0, np.zeros((1, 2, 2)), False, 1)],
                   (1, 2, 2), "uint8")  # fmt: skip
    replay = buffer()
    replay.add(frames)
    [batch] = replay.draw(1, 2)
    assert batch["obs"].dtype == batch["next_obs"].dtype == np.uint8
    assert (batch["obs"] == 255).all()


# Priorities


def prioritised(errors: list[float], alpha: float = 1.0, **fields) -> Replay:
    replay = buffer(capacity=len(errors), priority=alpha, **fields)
    replay.add(numbered(0, len(errors)))
    replay.reprioritise(np.arange(len(errors)), np.array(errors))
    return replay


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_draws_are_proportional_to_the_errors_raised_to_the_exponent(alpha):
    errors = [1.0, -4.0, 9.0, 16.0]
    replay = prioritised(errors, alpha)
    drawn = np.concatenate([replay.draw_by_priority(100)[1] for _ in range(200)])
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    expected = np.abs(errors) ** alpha
    assert shares == pytest.approx(expected / expected.sum(), abs=0.02)


def test_importance_weights_make_up_for_the_bias():
    """(size x share) ** -beta, over the largest of the batch."""
    errors = np.array([1.0, 2.0, 3.0, 10.0])
    replay = prioritised(errors.tolist(), priority_beta=0.5)
    batch, places = replay.draw_by_priority(64)
    assert set(places) == {0, 1, 2, 3}, "or the largest weight below is another"
    raw = (4 * errors / errors.sum()) ** -0.5
    assert batch["weights"] == pytest.approx((raw / raw.max())[places], rel=1e-4)
    assert batch["weights"].dtype == np.float32
    assert batch["weights"].max() == 1
    assert numbers(batch) == places.tolist()


def test_without_beta_all_weigh_the_same():
    batch, _ = prioritised([1.0, 2.0, 3.0, 10.0], priority_beta=0.0).draw_by_priority(64)
    assert (batch["weights"] == 1).all()


def test_weights_count_what_is_there_and_not_what_there_is_room_for():
    replay = buffer(capacity=1000, priority=1.0, priority_beta=1.0)
    replay.add(numbered(0, 4))
    replay.reprioritise(np.arange(4), np.array([1.0, 1.0, 1.0, 1.0]))
    batch, places = replay.draw_by_priority(32)
    assert set(places) <= {0, 1, 2, 3}
    assert batch["weights"] == pytest.approx(np.ones(32))


def test_a_new_transition_has_the_highest_priority_there_ever_was():
    replay = prioritised([2.0, 8.0, 0.5, 0.1])
    replay.reprioritise(np.array([1]), np.array([0.5]))
    replay.add(numbered(4, 1))
    assert replay.priorities is not None
    assert replay.priorities.at(np.arange(4)) == pytest.approx([8.0, 0.5, 0.5, 0.1], abs=1e-5)


def test_an_error_of_zero_leaves_a_transition_in_reach():
    replay = prioritised([0.0, 0.0])
    _, places = replay.draw_by_priority(64)
    assert set(places) == {0, 1}


# The sum tree


def brute_force(priorities: np.ndarray, shares: np.ndarray) -> list[int]:
    """The first place below which more than the share lies; at the very end, the last that has
    a priority."""
    below = np.cumsum(priorities)
    targets = shares * below[-1]
    last = int(np.flatnonzero(priorities)[-1])
    return [min(int(np.searchsorted(below, target, side="right")), last) for target in targets]


whole_priorities = st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any)
"""Whole numbers, of which every order of summing gives the same."""


@given(priorities=whole_priorities, shares=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_places_are_found_as_by_going_along_the_sums(priorities, shares):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities, float))
    assert tree.total == sum(priorities)
    found = tree.find(np.array(shares))
    assert found.tolist() == brute_force(np.array(priorities, float), np.array(shares))


@given(priorities=whole_priorities)
def test_evenly_spread_shares_find_each_place_as_often_as_its_priority_says(priorities):
    total = sum(priorities)
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities, float))
    found = tree.find((np.arange(10 * total) + 0.5) / (10 * total))
    assert np.bincount(found, minlength=len(priorities)).tolist() == [10 * p for p in priorities]


@given(
    size=st.integers(1, 33),
    changes=st.lists(
        st.lists(st.tuples(st.integers(0, 32), st.integers(0, 50)), min_size=1, max_size=20),
        min_size=1,
        max_size=6,
    ),
)
def test_of_equal_places_the_last_wins_and_every_sum_is_right(size, changes):
    tree, held = SumTree(size), np.zeros(size)
    for change in changes:
        places, values = (np.array(column) for column in zip(*change, strict=True))
        places %= size
        tree.set(places, values.astype(float))
        for place, value in zip(places, values, strict=True):
            held[place] = value
        assert tree.at(np.arange(size)).tolist() == held.tolist()
        assert tree.total == held.sum()
        if held.any():
            shares = np.linspace(0, 1, 50)
            assert tree.find(shares).tolist() == brute_force(held, shares)


@given(
    priorities=st.lists(
        st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=1, max_size=40
    ).filter(any),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_a_place_without_priority_is_never_found(priorities, shares):
    """However the sums are rounded, and at both ends."""
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities))
    assert tree.total == pytest.approx(sum(priorities))
    for place in tree.find(np.array([0.0, *shares, 1.0])):
        assert priorities[place] > 0


# Sums of n rewards


def play(seed: int, lanes: int, length: int) -> list[list[tuple]]:
    """Random steps of each lane: observation, action, reward, successor, terminated, truncated.

    No two observations are equal, and the successor of an episode's last step is no episode's
    first.
    """
    chance = np.random.default_rng(seed)
    fresh = itertools.count()
    steps: list[list[tuple]] = []
    for _ in range(lanes):
        lane, obs = [], next(fresh)
        for _ in range(length):
            successor = next(fresh)
            terminated, truncated = (bool(chance.random() < 0.2) for _ in range(2))
            reward = float(chance.normal())
            lane.append((obs, int(chance.integers(4)), reward, successor, terminated, truncated))
            obs = next(fresh) if terminated or truncated else successor
        steps.append(lane)
    return steps


def looked_up(lane: list[tuple], n_step: int, gamma: float) -> list[tuple]:
    """The transitions of a lane, each found by itself from its definition."""
    found = []
    for first, (obs, action, *_) in enumerate(lane):
        total, discount = 0.0, 1.0
        for n, (_, _, reward, successor, terminated, truncated) in enumerate(lane[first:], 1):
            total += discount * reward
            discount *= gamma
            if terminated or truncated or n == n_step:
                found.append((obs, action, total, successor, terminated, n))
                break
    return found


@given(
    seed=st.integers(0, 10**6),
    lanes=st.integers(1, 3),
    length=st.integers(1, 25),
    n_step=st.integers(1, 5),
    gamma=st.sampled_from([0.0, 0.9, 1.0]),
)
@settings(deadline=None, max_examples=200)
def test_transitions_are_those_found_one_by_one(seed, lanes, length, n_step, gamma):
    steps = play(seed, lanes, length)
    assembler = Assembler(lanes, n_step, gamma)
    given_out: list[list[tuple]] = [[] for _ in range(lanes)]
    for now in zip(*steps, strict=True):
        for lane, step in enumerate(now):
            given_out[lane] += assembler.add(lane, *step)
    for lane, transitions in enumerate(given_out):
        expected = looked_up(steps[lane], n_step, gamma)
        assert [t[:2] + t[3:] for t in transitions] == [t[:2] + t[3:] for t in expected]
        assert [t[2] for t in transitions] == pytest.approx([t[2] for t in expected])


def test_a_truncated_episode_is_bootstrapped_from_its_last_state_and_a_terminated_one_is_not():
    a, b, c, end = (np.array(i) for i in range(4))
    for terminated in (True, False):
        assembler = Assembler(1, 3, 0.5)
        assert assembler.add(0, a, 0, 1.0, b, False, False) == []
        out = assembler.add(0, b, 1, 2.0, end, terminated, not terminated)
        assert out == [(a, 0, 2.0, end, terminated, 2), (b, 1, 2.0, end, terminated, 1)]
        assert assembler.add(0, c, 0, 5.0, a, False, False) == [], "nothing is left over"


def test_an_episode_that_terminates_as_it_is_cut_off_has_terminated():
    [transition] = Assembler(1, 1, 0.9).add(0, np.array(0), 0, 1.0, np.array(1), True, True)
    assert transition[4] is True


def test_no_transition_yet_is_a_stack_of_none():
    """With n steps to wait for, a rollout may end before any transition is whole."""
    empty = stack([], (3,), "float32")
    filled = numbered(0, 2)
    assert empty.keys() == filled.keys()
    for name, part in empty.items():
        assert len(part) == 0
        assert part.shape[1:] == filled[name].shape[1:]
        assert part.dtype == filled[name].dtype
