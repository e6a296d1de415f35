"""Which lineage comes next: shared rounds first, nobody waits while there is other work."""

from __future__ import annotations

import pytest

from raylottery.driver import queue as queues
from raylottery.driver.plan import make_plan
from raylottery.driver.queue import WorkQueue
from raylottery.spec import Lineage, parse_sweep


SWEEP = """
name: q
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1, 2]
axes:
  prune.scope: [global, layerwise]
  rewind.weights: [init, 1ep]
"""


@pytest.fixture
def plan():
    return make_plan(parse_sweep(SWEEP), None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def take(queue: WorkQueue) -> Lineage:
    """The next lineage, where there must be one."""
    lineage = queue.next()
    assert lineage is not None
    return lineage


def finish(queue: WorkQueue, lineage, rounds: int | None = None) -> None:
    for round in lineage.rounds[:rounds]:
        queue.round_done(round.key)
    queue.finished(lineage)


def free(key: str) -> str:
    return "free"


def test_each_seeds_dense_network_is_handed_out_once_before_anything_else(plan):
    queue = WorkQueue(plan, free)
    first = [take(queue) for _ in range(3)]
    assert sorted(lineage.seed for lineage in first) == [0, 1, 2]
    assert queue.next() is None, "the other arms wait for a trunk that is being trained"
    assert not queue.drained


def test_a_finished_trunk_frees_its_other_arms_while_its_lineage_goes_on(plan):
    queue = WorkQueue(plan, free)
    first = take(queue)
    queue.round_done(first.rounds[0].key)
    second = take(queue)
    assert second.seed != first.seed, "an untrained trunk that others wait for comes first"
    third = take(queue)
    fourth = take(queue)
    assert third.seed not in (first.seed, second.seed)
    assert fourth.seed == first.seed
    assert fourth.id != first.id


def test_everything_is_handed_out_exactly_once_then_the_queue_is_drained(plan):
    queue = WorkQueue(plan, free)
    seen = []
    while not queue.drained:
        lineage = take(queue)
        seen.append(lineage.id)
        finish(queue, lineage)
    assert sorted(seen) == sorted(lineage.id for lineage in plan.lineages)


def test_a_lineage_whose_rounds_another_committed_is_not_handed_out(plan):
    queue = WorkQueue(plan, free)
    for round in plan.lineages[0].rounds:
        queue.round_done(round.key)
    handed = []
    while not queue.drained:
        handed.append(take(queue))
        finish(queue, handed[-1])
    assert plan.lineages[0].id not in {lineage.id for lineage in handed}


def test_a_lineage_that_stepped_back_is_looked_at_less_and_less_often(plan):
    clock = Clock()
    looks = []
    answers = ["held"] * 6 + ["free"]

    def look(key: str) -> str:
        looks.append(clock.now)
        return answers[len(looks) - 1]

    queue = WorkQueue(plan, look, only=[plan.lineages[0].id], clock=clock)
    lineage = take(queue)
    queue.busy(lineage)
    while (again := queue.next()) is None:
        assert not queue.drained
        clock.now += 0.5
    assert again == lineage
    assert looks == [1, 3, 7, 15, 25, 35, 45], "a second, doubled up to ten"


def test_a_round_that_another_driver_finished_is_done_here_too(plan):
    """The failure that follows is laid at the round that failed, not at that one."""
    clock = Clock()
    queue = WorkQueue(plan, lambda key: "done", clock=clock)
    first = take(queue)
    queue.busy(first)
    clock.now += queues.LOOK_AFTER_S
    assert queue.next() is not None
    assert queue.left(first) == tuple(round.key for round in first.rounds[1:])


def test_a_failed_trunk_dooms_the_lineages_that_need_it_and_no_other(plan):
    queue = WorkQueue(plan, free)
    failing = take(queue)
    queue.failed(failing, failing.rounds[0].key)
    rest = []
    while not queue.drained:
        rest.append(take(queue))
        finish(queue, rest[-1])
    assert {lineage.seed for lineage in rest} == {0, 1, 2} - {failing.seed}
    assert {lineage.seed for lineage in queue.doomed} == {failing.seed}
    assert len(queue.doomed) == 3


def test_a_worker_that_was_lost_dooms_nobody(plan):
    queue = WorkQueue(plan, free)
    queue.failed(take(queue), None)
    rest = 0
    while not queue.drained:
        finish(queue, take(queue))
        rest += 1
    assert rest == len(plan.lineages) - 1
    assert not queue.doomed


def test_a_stopped_queue_hands_out_nothing_and_drains_when_the_running_end(plan):
    queue = WorkQueue(plan, free)
    lineage = take(queue)
    queue.stopped = True
    assert queue.next() is None
    assert not queue.drained
    queue.finished(lineage)
    assert queue.drained
