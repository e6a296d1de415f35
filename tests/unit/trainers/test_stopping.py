"""Stop rules: what meets each, and what a search makes of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raylottery.pruning import Masks
from raylottery.spec import STOP_RULES, Stop
from raylottery.spec.rounds import goes_by_masks
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.stopping import RULES, Search, distance


def stop(rule: str, **fields) -> Stop:
    if "threshold" in STOP_RULES[rule]:
        fields = {"threshold": 0.5} | fields
    return Stop.model_validate({"rule": rule, **fields})


def told(rule: str, seen, **fields) -> int | None:
    """Which of the measurements or masks, counted from 0, is the first to meet the rule."""
    asked = RULES[rule](stop(rule, **fields))
    return next((at for at, one in enumerate(seen) if asked.met(one)), None)


def kept(*places: int, size: int = 40) -> Masks:
    """A mask of one layer that keeps these entries."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(places)] = True
    return Masks({"w": mask})


def shifted(by: int) -> Masks:
    """Ten entries kept in a row: masks shifted by n are 2n/10 apart."""
    return kept(*range(by, by + 10))


def start(*, searching: bool = True, next_masks=None) -> Start:
    return Start(
        ticket=Ticket(weights={}, masks=shifted(0), unmasked={}),
        data_seed=1,
        trunk_seed=1,
        clock=0,
        end=100,
        length=100,
        previous=None,
        searching=searching,
        next_masks=next_masks,
    )


def never():
    raise AssertionError("nothing is to be looked at here")


def test_every_rule_of_a_sweep_file_is_there_and_told_of_what_its_key_holds():
    assert list(RULES) == list(STOP_RULES)
    for name, rule in RULES.items():
        assert (rule.goes_by == "masks") == goes_by_masks(stop(name)), name
    assert {name: rule.goes_by for name, rule in RULES.items()} == {
        "length": "values", "solved": "values", "target": "values", "plateau": "values",
        "patience": "losses", "mask-distance": "masks", "mask-difference": "masks",
    }  # fmt: skip


def test_length_is_never_met():
    assert told("length", [0.0, 1.0, 1e9] * 10) is None


def test_target_is_met_by_the_first_measurement_that_reaches_it():
    assert told("target", [0.1, 0.49, 0.5, 0.9]) == 2
    assert told("target", [0.1, 0.499]) is None


def test_solved_wants_the_threshold_held_in_a_row():
    assert told("solved", [0.6, 0.5, 0.4, 0.6, 0.6, 0.5], hold=3) == 5
    assert told("solved", [0.6, 0.6, 0.4] * 5, hold=3) is None
    assert told("solved", [0.4, 0.6], hold=1) == 1


def test_plateau_wants_measurements_in_a_row_without_a_better_one():
    assert told("plateau", [0.1, 0.2, 0.2, 0.1, 0.2], patience=3) == 4, "an equal one is no better"
    assert told("plateau", [0.1, 0.0, 0.0, 0.2, 0.1, 0.1, 0.1], patience=3) == 6
    assert told("plateau", [0.1, 0.2, 0.3, 0.4], patience=1) is None
    assert told("plateau", [-500.0, -500.0], patience=1) == 1, "returns may be negative"


def test_plateau_counts_a_better_one_only_if_it_is_better_by_more_than_least():
    climb = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert told("plateau", climb, patience=2, least=0.5) is None
    assert told("plateau", climb, patience=2, least=1.5) is None, "a slow climb is a climb"
    assert told("plateau", climb, patience=2, least=2.0) == 2


def test_patience_wants_losses_in_a_row_that_are_no_lower():
    assert told("patience", [0.9, 0.5, 0.5, 0.6, 0.5], patience=3) == 4, "an equal one is no lower"
    assert told("patience", [0.9, 0.9, 0.9, 0.5, 0.6, 0.6, 0.6], patience=3) == 6
    assert told("patience", [0.9, 0.5, 0.4, 0.1, 0.0], patience=1) is None
    assert told("patience", [0.1, 0.2], patience=1) == 1
    assert told("patience", [1.0] * 6) == 5, "five by default"


def test_patience_counts_a_lower_one_only_if_it_is_lower_by_more_than_least():
    fall = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert told("patience", fall, patience=2, least=0.5) is None
    assert told("patience", fall, patience=2, least=1.5) is None, "a slow fall is a fall"
    assert told("patience", fall, patience=2, least=2.0) == 2


@pytest.mark.parametrize(
    ("rule", "met"), [("plateau", [False, False, True]), ("patience", [False, True, False])]
)
def test_plateau_goes_by_the_measurement_and_patience_by_the_loss(rule, met):
    """Accuracy and loss may fall together, and rise together."""
    search = Search(stop(rule, patience=1), start())
    seen = [(10, 0.1, 0.5), (20, 0.2, 0.6), (30, 0.2, 0.4)]
    assert [search.measured(*one) for one in seen] == met
    assert (search.stopped_by, search.step) == (rule, 10 + 10 * met.index(True))


@given(losses=st.lists(st.floats(0, 3), max_size=30), searching=st.booleans())
def test_a_search_by_losses_is_one_of_plateau_by_what_is_lost(losses, searching):
    """Whatever the measured values do meanwhile."""
    patient = Search(stop("patience", patience=2), start(searching=searching))
    other = Search(stop("plateau", patience=2), start(searching=searching))
    for at, loss in enumerate(losses):
        assert patient.measured(at, float(at), loss) == other.measured(at, -loss)
    assert patient.step == other.step


def test_the_distance_is_counted_in_entries_kept_by_the_newest():
    assert distance(kept(0, 1, 2, 3), kept(0, 1, 2, 3)) == 0
    assert distance(kept(0, 1, 2, 3), kept(0, 1, 2, 9)) == 2 / 4, "one swapped counts twice"
    assert distance(kept(0, 1, 2, 3), kept(4, 5, 6, 7)) == 2
    assert distance(kept(0, 1), kept(0, 1, 2, 3, 4)) == 3 / 2
    assert distance(kept(0, 1, 2, 3, 4), kept(0, 1)) == 3 / 5


def test_the_distance_does_not_fall_because_more_is_pruned():
    assert distance(kept(0, 1, size=4), kept(0, 2, size=4)) == distance(
        kept(0, 1, size=4000), kept(0, 2, size=4000)
    )


def test_the_distance_pools_the_layers():
    newest = Masks({"a": torch.tensor([True, True, False]), "b": torch.tensor([[True], [True]])})
    other = Masks({"b": torch.tensor([[False], [True]]), "a": torch.tensor([True, False, True])})
    assert distance(newest, other) == 3 / 4


def test_mask_distance_wants_a_full_window():
    same = [shifted(0)] * 5
    assert told("mask-distance", same) == 4, "five by default"
    assert told("mask-distance", same[:4]) is None
    assert told("mask-distance", same, window=2) == 1


def test_mask_distance_compares_the_newest_with_each_of_the_others():
    creeping = [shifted(by) for by in range(6)]
    assert told("mask-distance", creeping, window=3, within=0.4) == 2
    assert told("mask-distance", creeping, window=3, within=0.39) is None, "the oldest is too far"
    there_and_back = [shifted(0), shifted(3), shifted(0)]
    assert told("mask-distance", there_and_back, window=3, within=0.5) is None


def test_mask_distance_forgets_what_is_older_than_its_window():
    masks = [shifted(0), shifted(5), shifted(5), shifted(5)]
    assert told("mask-distance", masks, window=3) == 3


def test_mask_difference_compares_the_newest_with_the_one_before():
    assert told("mask-difference", [shifted(0), shifted(2), shifted(0), shifted(0)]) == 3
    creeping = [shifted(by) for by in range(6)]
    assert told("mask-difference", creeping, within=0.2) == 1
    assert told("mask-difference", creeping, within=0.19) is None
    assert told("mask-difference", [shifted(0)]) is None, "one mask differs from nothing"


def test_a_search_ends_once_and_says_where_and_by_what():
    search = Search(stop("target"), start())
    assert (search.stopped_by, search.step) == ("length", None)
    assert [search.measured(at, value) for at, value in ((10, 0.4), (20, 0.6), (30, 0.9))] == [
        False,
        True,
        False,
    ]
    assert (search.stopped_by, search.step) == ("target", 20)


@given(
    rule=st.sampled_from([name for name, rule in RULES.items() if rule.goes_by == "values"]),
    values=st.lists(st.floats(-1, 1), max_size=30),
    searching=st.booleans(),
)
def test_a_search_answers_yes_at_most_once_and_only_while_it_searches(rule, values, searching):
    search = Search(stop(rule), start(searching=searching))
    answers = [search.measured(at, value) for at, value in enumerate(values)]
    met = told(rule, values) if searching else None
    assert [at for at, answer in enumerate(answers) if answer] == ([] if met is None else [met])
    assert search.step == met
    assert search.stopped_by == ("length" if met is None else rule)


def test_a_search_goes_by_the_masks_that_the_weights_would_give():
    given_weights = []
    masks = iter([shifted(0), shifted(4), shifted(4), shifted(4)])

    def next_masks(weights):
        given_weights.append(weights)
        return next(masks)

    search = Search(stop("mask-difference"), start(next_masks=next_masks))
    weights = [{"w": torch.tensor(float(at))} for at in range(4)]
    answers = [search.settled(at, lambda at=at: weights[at]) for at in range(4)]
    assert answers == [False, False, True, False]
    assert given_weights == weights[:3], "once it has ended, no mask is drawn any more"
    assert (search.stopped_by, search.step) == ("mask-difference", 2)


@pytest.mark.parametrize("rule", list(RULES))
def test_masks_are_drawn_for_the_rules_that_go_by_them_alone(rule):
    drawn = []

    def next_masks(weights):
        drawn.append(weights)
        return shifted(0)

    search = Search(stop(rule), start(next_masks=next_masks))
    assert search.watches_masks == (RULES[rule].goes_by == "masks")
    if search.watches_masks:
        assert not any(search.measured(at, 1e9, 0.0) for at in range(20)), "it goes by masks alone"
        search.settled(0, dict)
    else:
        assert not any(search.settled(at, never) for at in range(20))
    assert len(drawn) == (search.rule.goes_by == "masks")


@pytest.mark.parametrize("rule", list(RULES))
def test_where_nothing_is_searched_for_nothing_is_looked_at(rule):
    search = Search(stop(rule), start(searching=False))
    assert not search.watches_masks
    assert not any(search.measured(at, 1e9) for at in range(20))
    assert not any(search.settled(at, never) for at in range(20))
    assert (search.stopped_by, search.step) == ("length", None)


def test_the_training_ends_with_the_search_only_if_that_is_asked_for():
    for evaluate, ends in (("full", False), ("at-stop", True)):
        search = Search(stop("target", evaluate=evaluate), start())
        search.measured(10, 0.4)
        assert not search.ends_training
        search.measured(20, 0.6)
        assert search.ends_training == ends
