"""What ends a search, how long rounds are, and what a round finds besides its ticket."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.errors import SpecError
from raylottery.spec import (
    STOP_RULES,
    Eval,
    Frozen,
    Prune,
    Reset,
    Stop,
    expand,
    fingerprint,
    lineage_rounds,
    parse_sweep,
)
from raylottery.spec.rounds import goes_by_masks
from tests.unit.spec.samples import AGENT, STUDY, agent, alone, altered, refusal


def keys(*sets: str) -> list[str]:
    return [round.key for round in lineage_rounds(agent(*sets), 0)]


def forks(*sets: str) -> list[bool]:
    """Which rounds have other keys than without these settings, the dense one first."""
    return [one != other for one, other in zip(keys(), keys(*sets), strict=True)]


NO_ROUND, PRUNED_ROUNDS, ALL_ROUNDS = [False] * 4, [False, True, True, True], [True] * 4
RULES = {
    "solved": ("stop.rule=solved", "stop.threshold=475"),
    "target": ("stop.rule=target", "stop.threshold=475"),
    "plateau": ("stop.rule=plateau",),
    "mask-distance": ("stop.rule=mask-distance",),
    "mask-difference": ("stop.rule=mask-difference",),
}


# Refusals


AGENT_CASES = [
    ("{rule: solved, threshold: 475}", "{rule: sovled, threshold: 475}",
     "16: stop.rule: no such value: 'sovled'. Did you mean 'solved'?"),
    ("threshold: 475", "treshold: 475",
     "16: stop.treshold: no such field. Did you mean 'threshold'?"),
    ("{rule: solved, threshold: 475}", "{rule: solved}",
     "16: stop.threshold: missing: the rule solved needs one, such as 475."),
    ("{rule: solved, threshold: 475}", "{rule: target}",
     "16: stop.threshold: missing: the rule target needs one, such as 475."),
    ("{rule: solved, threshold: 475}", "{threshold: 475}",
     "16: stop.threshold: means nothing under the rule length; leave it out."),
    ("rule: solved, ", "rule: target, hold: 2, ",
     "16: stop.hold: means nothing under the rule target; leave it out."),
    ("rule: solved, ", "rule: plateau, ",
     "16: stop.threshold: means nothing under the rule plateau; leave it out."),
    ("{rule: solved, threshold: 475}", "{rule: mask-difference, window: 3}",
     "16: stop.window: means nothing under the rule mask-difference; leave it out."),
    ("{rule: solved, threshold: 475}", "{rule: mask-distance, patience: 3, least: 1.0}",
     "16: stop.patience: means nothing under the rule mask-distance; leave it out.\n"
     "study.yaml:16: stop.least: means nothing under the rule mask-distance; leave it out."),
    ("{rule: solved, threshold: 475}", "{evaluate: at-stop}",
     "16: stop.evaluate: the rule length stops nothing before the end; leave it out, or say "
     "rule."),
    ("{rule: solved, threshold: 475}", "{rule: mask-distance, within: 1}",
     "16: stop.within: must be below 1, not 1. (mask-distance, mask-difference: the largest "
     "difference, as a share of what is kept.)"),
    ("{rule: solved, threshold: 475}", "{rule: mask-distance, window: 1}",
     "16: stop.window: must be at least 2, not 1. (mask-distance: masks in a row that lie within "
     "that of the newest.)"),
    ("{rule: solved, threshold: 475}", "{rule: patience}", "16: stop.rule: an agent has no "
     "validation loss; say plateau, which goes by its returns."),
    ("rewind: {weights: init}", "rewind: {weights: final, retrain: 0it}", "14: rewind.retrain: "
     "0it of the training (50000ts, 24500 updates) comes to no update at all; say at least 1it."),
    ("{optimizer: fresh}", "{optimizer: fresh}\ncheckpoint: 5%", "18: checkpoint: an agent's "
     "round cannot go on from its middle; leave it out."),
    ("{optimizer: fresh}", "{optimiser: kept}",
     "17: reset.optimiser: no such field. Did you mean 'optimizer'?"),
    ("{optimizer: fresh}", "{replay: keep}",
     "17: reset.replay: no such value: 'keep'. Did you mean 'kept'?"),
    ("{optimizer: fresh}", "{learning_starts: skipped}", "17: reset.learning_starts: the first "
     "update needs experience: skipped goes with replay: kept."),
    ("{optimizer: fresh}", "{replay: prefilled, learning_starts: skipped}",
     "17: reset.learning_starts: the first update needs experience: skipped goes with replay: "
     "kept."),
    ("{optimizer: fresh}", "{normaliser: kept}", "17: reset.normaliser: no statistics are taken; "
     "leave it out, or say trainer.normalise: true."),
    ("{optimizer: fresh}", "{lr: late}",
     "17: reset.lr: no such value: 'late'. Valid: clock, start, end."),
    ("episodes: 3", "episodes: 0", "15: eval.episodes: must be at least 1, not 0. (dqn: greedy "
                                   "episodes of a measurement, the same starts each time.)"),
    # An arm whose rule reads less than the base gives
    ("reset.replay: [empty, prefilled]", "stop.rule: [solved, plateau]",
     "19: axes: arm scope=global rule=plateau: stop.threshold: means nothing under the rule "
     "plateau; leave it out."),
    ("reset.replay: [empty, prefilled]", "reset.learning_starts: [again, skipped]",
     "21: axes.reset.learning_starts[1]: the first update needs experience: skipped goes with "
     "replay: kept."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), AGENT_CASES)
def test_a_fault_is_named_with_its_line_and_its_mend(old, new, message):
    assert refusal(altered((old, new), text=AGENT)) == f"study.yaml:{message}".split("\n")


CLASSIFIER_CASES = [
    ("eval: {episodes: 3}", "18: eval.episodes: is for kind dqn, not classifier; leave it out."),
    ("eval: {final: 3}", "18: eval.final: is for kind dqn, not classifier; leave it out."),
    ("eval: {every: 1ep, window: 3}",
     "18: eval.window: is for kind dqn, not classifier; leave it out."),
    ("reset: {optimizer: kept}",
     "18: reset.optimizer: is for kind dqn, not classifier; leave it out."),
    ("reset: {normaliser: kept}",
     "18: reset.normaliser: is for kind dqn, not classifier; leave it out."),
    ("stop: {rule: target, threshold: 95}",
     "18: stop.threshold: accuracy is a share of 1, never 95; say one such as 0.95."),
    ("stop: {rule: patience, hold: 2}",
     "18: stop.hold: means nothing under the rule patience; leave it out."),
    ("stop: {rule: patience, threshold: 0.5}",
     "18: stop.threshold: means nothing under the rule patience; leave it out."),
    ("checkpoint: 0it", "18: checkpoint: 0it of the training (15ep, 525 updates) comes to no "
     "update at all; say at least 1it."),
    ("checkpoint: 0.01%", "18: checkpoint: 0.01% of the training (15ep, 525 updates) comes to no "
     "update at all; say at least 1it."),
    ("checkpoint: 5ts", "18: checkpoint: 5ts is in environment steps, which cannot be counted "
     "here. Units: it, ep, %."),
    ("checkpoint: often", "18: checkpoint: 'often' is no extent: a number and its unit, such as "
     "500it, 2ep or 5%."),
]  # fmt: skip


@pytest.mark.parametrize(("section", "message"), CLASSIFIER_CASES)
def test_what_a_classifier_does_not_have(section, message):
    assert refusal(altered(("retries: 3", section))) == [f"study.yaml:{message}"]


def test_an_axis_over_what_a_classifier_does_not_have_is_refused_at_its_value():
    axis = ("[global, layerwise]", "[global]\n  reset.target: [online, previous]")
    assert refusal(altered(axis)) == [
        "study.yaml:15: axes.reset.target[1]: is for kind dqn, not classifier; leave it out."
    ]


def test_a_section_for_agents_at_its_defaults_is_none_of_a_classifiers_faults():
    sections = "eval: {episodes: 5}\nreset: {replay: empty}\nstop: {rule: length}"
    assert not refused(altered(("retries: 3", sections)))


def refused(text: str) -> bool:
    try:
        refusal(text)
    except pytest.fail.Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["stop.length_power=8"],  # 0.8 ** 24 of 525 updates
         "--set stop.length_power: round 3 would be 2 updates long, and its clock starts at 35: "
         "nothing is left to train. Lower it, or prune.rounds."),
        (["stop.length_power=-1"],
         "--set stop.length_power: must be at least 0, not -1. (A round is as long as the dense "
         "one times (1 - fraction) ** (round * this); 0: as long.)"),
        (["stop.length_power=1", "rewind={weights: final, retrain: 5ep}"],
         "--set stop.length_power: with the clock at final every round is rewind.retrain long; "
         "leave it out."),
    ],
)  # fmt: skip
def test_rounds_that_leave_nothing_to_train(sets, message):
    plain = ("axes={}", "rewind.weights=1ep")
    assert refusal(STUDY, (*plain, *sets)) == [message]


def test_a_length_power_that_an_axis_sets_is_judged_with_its_arm():
    [line] = refusal(AGENT, ("axes={stop.length_power: [1, 100]}",))
    assert line == (
        "--set axes: axes.stop.length_power[1]: round 3 would be 0 updates long, and its clock "
        "starts at 0: nothing is left to train. Lower it, or prune.rounds."
    )


# Stop rules


def test_every_field_of_a_stop_is_read_by_some_rule():
    """A new field has to say here which rule reads it."""
    assert set(STOP_RULES) == set(get_args(Stop.model_fields["rule"].annotation))
    read = {name for names in STOP_RULES.values() for name in names}
    assert set(Stop.model_fields) == {"rule", "evaluate", "length_power", *read}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_ends_a_search_forks_every_round(rule):
    assert forks(*RULES[rule]) == ALL_ROUNDS
    assert len({keys(*settings)[0] for settings in RULES.values()}) == len(RULES)


def test_the_dense_round_under_a_rule_in_full():
    plain = lineage_rounds(agent(), 0)[0].spec
    dense = lineage_rounds(agent(*RULES["solved"], "stop.hold=2"), 0)[0]
    rule = {"rule": "solved", "threshold": 475.0, "hold": 2, "evaluate": "full"}
    assert dense.spec == {**plain, "stop": rule}
    assert dense.key == fingerprint(dense.spec)
    assert (dense.stop.rule, dense.prune) == ("solved", None)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("solved", "threshold=400"),
        ("solved", "hold=4"),
        ("target", "threshold=400"),
        ("plateau", "patience=4"),
        ("plateau", "least=1.0"),
        ("mask-distance", "within=0.2"),
        ("mask-distance", "window=4"),
        ("mask-difference", "within=0.2"),
        *((rule, "evaluate=at-stop") for rule in RULES),
    ],
)
def test_what_a_rule_reads_enters_every_key(rule, field):
    assert not set(keys(*RULES[rule])) & set(keys(*RULES[rule], f"stop.{field}"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "change", ["prune.score=random", "prune.scope=layerwise", "prune.fraction=0.3"]
)
def test_only_rules_that_look_at_masks_make_the_dense_round_one_of_how_they_are_drawn(
    rule, change
):
    before = lineage_rounds(agent(*RULES[rule]), 0)
    after = lineage_rounds(agent(*RULES[rule], change), 0)
    masks = rule in ("mask-distance", "mask-difference")
    assert goes_by_masks(before[0].stop) == masks
    assert (before[0].key != after[0].key) == masks
    assert (after[0].prune is not None) == masks
    assert not {round.key for round in before[1:]} & {round.key for round in after[1:]}


def test_how_many_rounds_follow_is_nothing_of_a_rule():
    deeper = keys(*RULES["mask-distance"], "prune.rounds=5")
    assert deeper[:4] == keys(*RULES["mask-distance"])


def test_the_trunk_is_shared_under_any_rule_that_looks_at_no_masks():
    scopes = ("axes.prune.scope=[global, layerwise]",)
    for rule, shared in (("solved", True), ("mask-distance", False)):
        arms = expand(agent(*RULES[rule], *scopes))
        trunks = {lineage_rounds(arm.study, 0)[0].key for arm in arms}
        assert (len(trunks) == 1) == shared


def test_a_rule_is_a_classifiers_too():
    dense = lineage_rounds(alone("stop={rule: target, threshold: 0.6}"), 0)[0]
    assert dense.spec["stop"] == {"rule": "target", "threshold": 0.6, "evaluate": "full"}
    assert dense.key != lineage_rounds(alone(), 0)[0].key
    assert lineage_rounds(alone("stop={rule: length}"), 0)[0].key == (
        lineage_rounds(alone(), 0)[0].key
    )


def test_patience_is_a_classifiers_rule_and_holds_what_it_reads():
    plain = lineage_rounds(alone(), 0)
    rounds = lineage_rounds(alone("stop={rule: patience, patience: 3}"), 0)
    rule = {"rule": "patience", "patience": 3, "least": 0.0, "evaluate": "full"}
    assert rounds[0].spec == {**plain[0].spec, "stop": rule}
    assert rounds[0].prune is None, "no mask is looked at"
    assert not {round.key for round in rounds} & {round.key for round in plain}


@pytest.mark.parametrize(
    "change", ["patience=4", "least=0.01", "evaluate=at-stop", "rule=plateau"]
)
def test_what_patience_reads_enters_every_key(change):
    before, after = (
        {round.key for round in lineage_rounds(alone("stop.rule=patience", *sets), 0)}
        for sets in ((), (f"stop.{change}",))
    )
    assert not before & after


@pytest.mark.parametrize("checkpoint", ["1it", "5ep", "33.3%", "100%", "526it"])
def test_a_round_may_be_put_aside_at_every_update_or_never(checkpoint):
    """A long time is no fault: a base may say it for arms of which some are short."""
    assert str(alone(f"checkpoint={checkpoint}").checkpoint) == checkpoint
    assert alone().checkpoint is None


# Lengths of rounds


def test_a_length_power_shortens_pruned_rounds_and_forks_them_alone():
    rounds = lineage_rounds(agent("stop.length_power=1"), 0)
    assert [round.length for round in rounds] == [24500, 19600, 15680, 12544]
    assert [round.end for round in rounds] == [24500, 19600, 15680, 12544]
    assert {round.clock for round in rounds} == {0}
    assert forks("stop.length_power=1") == PRUNED_ROUNDS
    assert forks("stop.length_power=0") == NO_ROUND


def test_a_shortened_round_starts_where_it_always_did():
    rounds = lineage_rounds(agent("stop.length_power=0.5", "rewind.weights=5%"), 0)
    assert [(round.clock, round.end) for round in rounds[1:3]] == [(1225, 21913), (1225, 19600)]


def test_a_control_is_as_long_as_its_ticket():
    sweep = agent("stop.length_power=1", "controls=[reinit, permuted-mask]", "rewind.weights=5%")
    for round in lineage_rounds(sweep, 0)[1:]:
        assert round.length == round.end == [24500, 19600, 15680, 12544][round.index]
        assert round.clock == 1225
        assert round.spec["end"] == 24500, "the power is in the key, and no rounded figure of it"


@given(st.floats(0, 3), st.floats(0.01, 0.6), st.integers(1, 6))
@settings(deadline=None, max_examples=100)
def test_rounds_never_grow_and_never_outlast_the_dense_one(power, fraction, rounds):
    prune = Prune(rounds=rounds, fraction=fraction)
    stop = Stop(length_power=power)
    lengths = [stop.length_of(10**6, prune, index) for index in range(rounds + 1)]
    assert lengths[0] == 10**6
    assert lengths == sorted(lengths, reverse=True)
    assert abs(lengths[-1] - 10**6 * (1 - fraction) ** (power * rounds)) <= 0.5


# What a round finds


RESETS = {
    "replay": ("reset.replay=prefilled",),
    "target": ("reset.target=previous",),
    "target_mask": ("reset.target_mask=dense",),
    "exploration": ("reset.exploration=end",),
    "lr": ("reset.lr=end",),
    "normaliser": ("reset.normaliser=rewound",),
    "env_seed": ("reset.env_seed=same",),
    "exploration_seed": ("reset.exploration_seed=same",),
}
CARRIED = {
    "optimizer": ("reset.optimizer=kept",),
    "replay": ("reset.replay=kept",),
    "learning_starts": ("reset.replay=kept", "reset.learning_starts=skipped"),
}
FULL = ("trainer.normalise=true", "trainer.lr_end=0.1")


def forked(settings) -> list[bool]:
    before, after = keys(*FULL), keys(*FULL, *settings)
    return [one != other for one, other in zip(before, after, strict=True)]


def test_every_field_of_a_reset_is_known_to_count():
    assert set(Reset.model_fields) == {*RESETS, *CARRIED}
    for name, field in (*Reset.model_fields.items(), *Eval.model_fields.items()):
        if name != "every":
            [frozen] = [mark for mark in field.metadata if isinstance(mark, Frozen)]
            assert frozen.value == field.default


@pytest.mark.parametrize("settings", RESETS.values(), ids=str)
def test_what_a_round_resets_forks_pruned_rounds_and_never_the_dense_one(settings):
    assert forked(settings) == PRUNED_ROUNDS


@pytest.mark.parametrize("settings", CARRIED.values(), ids=str)
def test_what_a_round_is_handed_forks_the_dense_one_too_which_has_to_leave_it(settings):
    assert forked(settings) == ALL_ROUNDS


def test_what_is_handed_on_is_part_of_the_dense_rounds_spec():
    plain = lineage_rounds(agent(), 0)[0].spec
    sweep = agent("reset.replay=kept", "reset.optimizer=kept")
    dense, ticket, *_ = lineage_rounds(sweep, 0)
    assert dense.spec == {**plain, "carries": ["optimizer", "replay"]}
    assert ticket.spec["reset"] == {"optimizer": "kept", "replay": "kept"}


def test_each_reset_has_rounds_of_its_own():
    ways = [(), *RESETS.values(), *CARRIED.values()]
    assert len({keys(*FULL, *settings)[1] for settings in ways}) == len(ways)


@pytest.mark.parametrize("schedule", ["exploration", "lr"])
def test_a_schedule_at_a_clock_of_zero_is_at_its_start(schedule):
    start = (*FULL, f"reset.{schedule}=start")
    assert keys(*start) == keys(*FULL)
    assert keys(*start, "rewind.weights=5%") != keys(*FULL, "rewind.weights=5%")


def test_arms_that_differ_in_no_training_are_refused():
    assert refusal(AGENT, ("axes={reset.exploration: [clock, start]}",)) == [
        "--set axes: the arms `exploration=clock` and `exploration=start` mean the same; "
        "keep one of them."
    ]


def test_what_is_carried_from_after_the_stop_is_refused():
    text = AGENT.replace("{optimizer: fresh}", "{optimizer: kept}").replace(
        "reset.replay: [empty, prefilled]", "reset.target: [online, previous]"
    )
    with pytest.raises(SpecError, match=r"reset\.optimizer: goes on where the search ended; say"):
        parse_sweep(text)
    parse_sweep(text, overrides=["stop.evaluate=at-stop"])


def test_a_rate_that_never_changes_has_no_schedule_to_reset():
    text = AGENT.replace("lr: 0.001", "lr: 0.001\n  lr_end: 1.0").replace(
        "{optimizer: fresh}", "{lr: end}"
    )
    with pytest.raises(SpecError, match=r"reset\.lr: the learning rate never changes"):
        parse_sweep(text)
