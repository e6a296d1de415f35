"""Short stories, in which all goes wrong that a story knows; `make faults` has more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from tests.faults.play import Outcome
from tests.faults.stories import KINDS, Story
from tests.faults.tellers import tell, tellers


INLINE = [13, 169, 349, 376, 425, 703, 707, 880, 1145]
ON_RAY = [1, 362, 443]
COMPILED = [100031, 100188]
COMPILED_ON_RAY = [100103]
"""Two threads each."""
AT_A_TIME = 2


@pytest.fixture(scope="session")
def telling(request) -> Iterator[Callable[[int], Future[Outcome]]]:
    """The stories that are asked for, told some at a time, from the first question on."""
    seeds = [
        item.callspec.params["seed"]
        for item in request.session.items
        if item.originalname == test_the_table_is_that_of_an_undisturbed_run.__name__
    ]
    with tellers(AT_A_TIME) as pool:
        told = {seed: pool.submit(tell, Story.of(seed)) for seed in seeds}
        yield told.__getitem__


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed",
    [
        *(*INLINE, *COMPILED),
        *(pytest.param(seed, marks=pytest.mark.ray) for seed in (*ON_RAY, *COMPILED_ON_RAY)),
    ],
)
def test_the_table_is_that_of_an_undisturbed_run(telling, seed):
    outcome = telling(seed).result()
    assert outcome.sound, str(outcome)
    assert not outcome.missed, str(outcome)


def test_the_short_stories_know_all_that_can_go_wrong():
    told = {kind for seed in (*INLINE, *ON_RAY) for kind in Story.of(seed).kinds}
    assert told == {kind for kinds in KINDS.values() for kind in kinds}
    assert all(Story.of(seed).place == "inline" for seed in INLINE)
    assert all(Story.of(seed).place != "inline" for seed in (*ON_RAY, *COMPILED_ON_RAY))
    compiled = [Story.of(seed) for seed in (*COMPILED, *COMPILED_ON_RAY)]
    assert {(story.trainer, story.threads) for story in compiled} == {("compiled", 2)}


def test_a_number_gives_one_story():
    assert [Story.of(seed) for seed in range(50)] == [Story.of(seed) for seed in range(50)]
