"""Which lineage comes next: shared rounds first, nobody waits while there is other work."""

from __future__ import annotations

import random
from collections import Counter
from cProfile import Profile

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


def test_only_a_lineage_that_is_wanted_is_handed_out():
    """A place for one kind of trial takes no lineage of another kind, however many wait for it."""
    axes = "axes:\n  zip: {trainer.model: [mlp-8, mlp-16], resources.cpus: [1, 2]}\n"
    plan = make_plan(parse_sweep(SWEEP.partition("axes:")[0] + axes), None)
    queue = WorkQueue(plan, free)
    assert queue.next(lambda lineage: False) is None
    found = queue.next(lambda lineage: lineage.arm.study.resources.cpus == 2)
    assert found is not None
    assert found.arm.study.resources.cpus == 2
    assert found not in queue.lineages()
    assert len(queue.lineages()) == len(plan.lineages) - 1
    assert not queue.drained


def test_a_round_that_is_held_elsewhere_is_tried_by_one_lineage_alone(plan):
    """The others that need it wait for it too, and all are handed out once it is given up."""
    clock = Clock()
    answers = iter(["held", "free"])
    queue = WorkQueue(plan, lambda key: next(answers), clock=clock)
    stepped_back = take(queue)
    queue.busy(stepped_back)
    others = []
    while (lineage := queue.next()) is not None:
        others.append(lineage)
    assert {lineage.seed for lineage in others} == {0, 1, 2} - {stepped_back.seed}
    clock.now = 1.0
    assert queue.next() is None
    clock.now = 3.0
    assert take(queue).seed == stepped_back.seed


def test_a_lineage_that_ends_early_leaves_its_rounds_to_others(plan):
    queue = WorkQueue(plan, free)
    first = [take(queue) for _ in range(3)]
    assert queue.next() is None
    queue.finished(first[0])
    assert take(queue).seed == first[0].seed


# Several at once


def all_of(lineage: Lineage, ready: int) -> int:
    return ready


def test_those_that_are_taken_together_do_not_wait_for_each_other(plan):
    """Of each seed one arm, for the dense network; the other arms once that is done."""
    queue = WorkQueue(plan, free)
    told = []

    def share(lineage: Lineage, ready: int) -> int:
        told.append(ready)
        return 2

    first = queue.take(share)
    second = queue.take(share)
    assert told == [3, 1]
    assert sorted(line.seed for line in first + second) == [0, 1, 2]
    assert (len(first), len(second)) == (2, 1)
    assert queue.take(share) == []
    queue.round_done(first[0].rounds[0].key)
    rest = queue.take(all_of)
    assert {line.seed for line in rest} == {first[0].seed}
    assert len(rest) == 3


def test_a_trial_takes_only_what_asks_for_the_same():
    axes = "axes:\n  zip: {trainer.model: [mlp-8, mlp-16], resources.cpus: [1, 2]}\n"
    plan = make_plan(parse_sweep(SWEEP.partition("axes:")[0] + axes), None)
    queue = WorkQueue(plan, free)
    cpus = [{line.arm.study.resources.cpus for line in queue.take(all_of)} for _ in range(2)]
    assert sorted(cpus, key=min) == [{1}, {2}]
    assert queue.take(all_of) == []


def test_what_broke_is_handed_out_alone(plan):
    clock = Clock()
    queue = WorkQueue(plan, free, retries=1, clock=clock)
    three = queue.take(all_of)
    for line in three[:2]:
        queue.retried(line)
    queue.unbegun(three[2])
    assert queue.take(all_of) == [three[2]], "the others wait a second"
    queue.finished(three[2])
    clock.now = 1.0
    assert [queue.take(all_of)[0].seed for _ in range(3)] == [0, 1, 2]
    queue = WorkQueue(plan, free, retries=1, clock=clock)
    three = queue.take(all_of)
    queue.retried(three[0])
    for line in three[1:]:
        queue.unbegun(line)
    clock.now += 1.0
    taken = [queue.take(all_of), queue.take(all_of)]
    assert [three[0]] in taken
    assert three[1:] in taken


def test_what_was_never_begun_waits_as_before(plan):
    queue = WorkQueue(plan, free)
    first = queue.take(all_of)
    for line in first:
        queue.unbegun(line)
    assert queue.take(all_of) == first
    queue.stopped = True
    assert not queue.drained
    for line in first:
        queue.unbegun(line)
    assert queue.drained


class Slow:
    """The queue's rule, looked up in all lineages each time."""

    def __init__(self, plan):
        self.left = {line: [round.key for round in line.rounds] for line in plan.lineages}
        self.waiting = list(plan.lineages)
        self.running = []

    def ready(self):
        claimed = {key for line in self.running for key in self.left[line]}
        return [line for line in self.waiting if self.left[line][0] not in claimed]

    def next(self):
        ready = self.ready()
        if not ready:
            return None
        wanted = Counter(self.left[line][0] for line in self.waiting)
        chosen = max(ready, key=lambda line: wanted[self.left[line][0]])
        self.waiting.remove(chosen)
        self.running.append(chosen)
        return chosen

    def round_done(self, key):
        for keys in self.left.values():
            if key in keys:
                keys.remove(key)
        self.waiting = [line for line in self.waiting if self.left[line]]


@pytest.mark.parametrize("chance", range(20))
def test_the_queue_hands_out_what_its_rule_says(plan, chance):
    """Rounds end in any order, some trained elsewhere, and some lineages end before their last."""
    draw = random.Random(chance)
    queue, slow = WorkQueue(plan, free), Slow(plan)
    while not queue.drained:
        if draw.random() < 0.3:
            assert queue.next() == slow.next()
        elif draw.random() < 0.3:
            size, rounds = draw.randint(1, 4), {slow.left[line][0] for line in slow.ready()}

            def share(lineage: Lineage, ready: int, rounds=rounds, size=size) -> int:
                assert ready == len(rounds)
                return size

            taken = queue.take(share)
            assert taken == [slow.next() for _ in range(min(size, len(rounds)))]
        elif draw.random() < 0.1 and (given := draw.choice([None, *slow.running])):
            queue.unbegun(given)
            slow.running.remove(given)
            if slow.left[given]:
                slow.waiting.append(given)
                slow.waiting.sort(key=plan.lineages.index)
        elif draw.random() < 0.1 and (elsewhere := queue.lineages()):
            key = draw.choice(queue.left(draw.choice(elsewhere)))
            queue.round_done(key)
            slow.round_done(key)
        elif slow.running:
            line = draw.choice(slow.running)
            for key in queue.left(line)[:1]:
                queue.round_done(key)
                slow.round_done(key)
            if not queue.left(line) or draw.random() < 0.1:
                queue.finished(line)
                slow.running.remove(line)
    assert not slow.waiting


def test_the_time_per_lineage_does_not_grow_with_their_number():
    """Looked at as calls, which no busy machine makes slower."""

    def calls(seeds: int) -> int:
        text = SWEEP.replace("[0, 1, 2]", str(list(range(seeds))))
        queue = WorkQueue(make_plan(parse_sweep(text), None), free)
        with Profile() as profile:
            while not queue.drained:
                finish(queue, take(queue))
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(80) < 1.3 * 4 * calls(20)


def waited(queue: WorkQueue, clock: Clock) -> tuple[float, Lineage]:
    """How long it takes until something is handed out, and what."""
    begun = clock.now
    while (lineage := queue.next()) is None:
        assert not queue.drained, "what waits to be tried again is left to do"
        clock.now += 0.5
    return clock.now - begun, lineage


def test_what_broke_is_tried_again_later_and_later_and_then_no_more(plan):
    clock = Clock()
    [line] = [plan.lineages[0]]
    queue = WorkQueue(plan, free, [line.id], retries=8, clock=clock)
    take(queue)
    waits = []
    while (promised := queue.retried(line)) is not None:
        waits.append(waited(queue, clock)[0])
        assert waits[-1] == promised
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    queue.failed(line, None)
    assert queue.drained


def test_a_sweep_without_retries_tries_nothing_again(plan):
    queue = WorkQueue(plan, free)
    assert queue.retried(take(queue)) is None


def test_retries_are_counted_by_lineage_whatever_it_did_in_between(plan):
    clock = Clock()
    line = plan.lineages[0]
    queue = WorkQueue(plan, free, [line.id], retries=2, clock=clock)
    take(queue)
    assert queue.retried(line) == 1
    waited(queue, clock)
    queue.busy(line)
    waited(queue, clock)
    queue.round_done(line.rounds[0].key)
    assert queue.retried(line) == 2
    waited(queue, clock)
    assert queue.retried(line) is None


def test_nobody_else_takes_the_round_of_what_waits_and_all_else_goes_on(plan):
    """Its own retries are what its round has: no other lineage that shares it spends them."""
    clock = Clock()
    queue = WorkQueue(plan, free, retries=1, clock=clock)
    broken = take(queue)
    assert queue.retried(broken) == 1
    others = []
    while (line := queue.next()) is not None:
        others.append(line)
    assert {line.seed for line in others} == {0, 1, 2} - {broken.seed}
    clock.now = 1.0
    assert take(queue) == broken
    assert queue.next() is None
    assert queue.retried(broken) is None
    queue.failed(broken, broken.rounds[0].key)
    assert {line.seed for line in queue.doomed} == {broken.seed}
    assert len(queue.doomed) == 3


def test_what_waits_is_stopped_with_the_rest(plan):
    queue = WorkQueue(plan, free, retries=1)
    queue.retried(take(queue))
    assert not queue.drained
    queue.stopped = True
    assert queue.drained


def test_what_broke_waits_until_its_dead_holder_is_seen_to_be_gone(plan):
    """A machine that is lost holds its leases until they have stood still for long enough."""
    clock = Clock()
    answers = iter(["held", "held", "held", "free"])
    line = plan.lineages[0]
    queue = WorkQueue(plan, lambda key: next(answers), [line.id], 1, clock)
    queue.retried(take(queue))
    assert waited(queue, clock) == (1 + 2 + 4 + 8, line)


def test_what_broke_after_others_did_its_work_is_over(plan):
    clock = Clock()
    line = plan.lineages[0]
    queue = WorkQueue(plan, free, [line.id], 1, clock)
    queue.retried(take(queue))
    for round in line.rounds:
        queue.round_done(round.key)
    assert queue.drained


def test_a_store_that_cannot_be_looked_at_is_left_to_whoever_tries(plan):
    clock = Clock()

    def look(key: str) -> str:
        raise OSError("the store is away")

    line = plan.lineages[0]
    queue = WorkQueue(plan, look, [line.id], 1, clock)
    queue.retried(take(queue))
    assert waited(queue, clock) == (1, line)
    assert queue.retried(line) is None
