from __future__ import annotations

from typing import Annotated, get_args

import pytest
from pydantic import Field, create_model

from raylottery.spec import (
    CONTROLS,
    ClassifierTrainer,
    Frozen,
    Prune,
    Rewind,
    Sweep,
    expand,
    fingerprint,
    lineage_rounds,
    lineages,
)
from tests.unit.spec.samples import alone, study


def keys(sweep):
    return [round.key for round in lineage_rounds(sweep, 0)]


def arm_id(sweep):
    [arm] = expand(sweep)
    return arm.id


def names(sweep):
    """Every arm, lineage and round of a sweep, by the name it has for ever."""
    lines = lineages(sweep)
    return {
        *(("arm", line.arm.id) for line in lines),
        *(("lineage", line.id) for line in lines),
        *(("round", round.key) for line in lines for round in line.rounds),
    }


def test_the_dense_round_in_full():
    dense = lineage_rounds(study(), 1)[0]
    assert dense.spec == {
        "schema": 1,
        "trainer": {
            "kind": "classifier",
            "dataset": "mnist1d",
            "model": "mlp-300-100",
            "length": 525,
            "batch_size": 100,
            "optimizer": "adam",
            "lr": 0.002,
            "protocol": 1,
        },
        "eval": {"every": 26},
        "seed": 1,
        "round": 0,
    }
    assert dense.key == dense.trunk == fingerprint(dense.spec)
    assert (dense.parent, dense.prune, dense.rewind_step) == (None, None, None)
    assert (dense.index, dense.seed, dense.replicate, dense.draw) == (0, 1, 0, 0)
    assert (dense.control, dense.lineage_mode) == ("ticket", "own")
    assert (dense.mask_source, dense.weight_source) == ("dense", "init")
    assert (dense.clock, dense.end) == (0, 525)


def test_a_pruned_round_and_its_control_in_full():
    dense, ticket, control, later, *_ = lineage_rounds(
        alone("rewind.weights=1ep", "controls=[random-ticket]"), 0
    )
    assert ticket.spec == {
        **dense.spec,
        "round": 1,
        "parent": dense.key,
        "prune": {"score": "magnitude", "scope": "global", "fraction": 0.2},
        "weights": "step:35",
        "clock": 35,
        "end": 525,
    }
    assert control.spec == {
        **ticket.spec,
        "weights": "reinit",
        "control": {"name": "random-ticket", "draw": 0},
    }
    assert (ticket.mask_source, ticket.weight_source) == ("imp", "step:35")
    assert (control.mask_source, control.weight_source) == ("permuted-layer", "reinit")
    assert (control.lineage_mode, ticket.lineage_mode) == ("branch", "own")
    assert later.parent == ticket.key == later.spec["parent"]
    for round in (ticket, control, later):
        assert round.key == fingerprint(round.spec)
        assert round.trunk == dense.key
        assert (round.clock, round.end) == (35, 525)
    assert [round.rewind_step for round in (ticket, control, later)] == [35, None, 35]


def test_rounds_come_by_index_ticket_first_and_controls_as_listed():
    sweep = alone("controls=[reinit, permuted-mask]", "prune.rounds=2")
    assert [(round.index, round.control) for round in lineage_rounds(sweep, 0)] == [
        (0, "ticket"),
        (1, "ticket"),
        (1, "reinit"),
        (1, "permuted-mask"),
        (2, "ticket"),
        (2, "reinit"),
        (2, "permuted-mask"),
    ]


def test_a_control_branches_off_the_ticket_before():
    rounds = lineage_rounds(study(), 0)
    tickets = {round.index: round for round in rounds if round.control == "ticket"}
    controls = [round for round in rounds if round.control != "ticket"]
    assert [control.index for control in controls] == [1, 2, 3]
    for control in controls:
        assert control.parent == tickets[control.index].parent == tickets[control.index - 1].key


@pytest.mark.parametrize(
    ("name", "mask", "weights"),
    [
        ("reinit", "imp", "reinit"),
        ("permuted-weights", "imp", "permuted-layer"),
        ("permuted-mask", "permuted-layer", "step:35"),
        ("permuted-both", "permuted-layer", "permuted-layer"),
        ("random-ticket", "permuted-layer", "reinit"),
        ("random-global", "permuted-global", "reinit"),
        ("small-dense", "dense", "reinit"),
        ("random-pruned", "random-layerwise", "step:35"),
        ("erk-random", "random-erk", "step:35"),
        ("sign-constant", "imp", "sign-constant"),
        ("sign-kept-reinit", "imp", "sign-kept"),
        ("replicate", "imp", "step:35"),
        ("shuffled-pixels", "imp", "step:35"),
        ("shuffled-labels", "imp", "step:35"),
    ],
)
def test_what_each_control_starts_from(name, mask, weights):
    rounds = lineage_rounds(alone("rewind.weights=1ep", f"controls=[{name}]"), 0)
    assert (rounds[2].mask_source, rounds[2].weight_source) == (mask, weights)
    assert len(CONTROLS) == 14


@pytest.mark.parametrize(
    ("rewind", "weights", "step", "clock", "end"),
    [
        ("{weights: init}", "init", 0, 0, 525),
        ("{weights: 0it}", "init", 0, 0, 525),
        ("{weights: 1ep}", "step:35", 35, 35, 525),
        ("{weights: 5%}", "step:26", 26, 26, 525),
        ("{weights: 1ep, clock: init}", "step:35", 35, 0, 525),
        ("{weights: final, clock: init}", "final", None, 0, 525),  # learning-rate rewinding
        ("{weights: final, clock: 10ep}", "final", None, 350, 525),
        ("{weights: final, retrain: 5ep}", "final", None, 525, 700),  # fine-tuning
        ("{weights: init, clock: final, retrain: 100it}", "init", 0, 525, 625),
        ("{weights: final, retrain: 0it}", "final", None, 525, 525),  # one-shot, without training
        ("{weights: init, clock: final, retrain: 0it}", "init", 0, 525, 525),
    ],
)
def test_rewinds_are_data(rewind, weights, step, clock, end):
    round = lineage_rounds(alone(f"rewind={rewind}"), 0)[1]
    assert (round.weight_source, round.rewind_step) == (weights, step)
    assert (round.clock, round.end) == (clock, end)
    assert [round.spec[name] for name in ("weights", "clock", "end")] == [weights, clock, end]


def test_every_rewind_has_keys_of_its_own_on_one_trunk():
    rewinds = [
        "{weights: init}",
        "{weights: 1ep}",
        "{weights: 1ep, clock: init}",
        "{weights: final, clock: init}",
        "{weights: final, retrain: 5ep}",
        "{weights: final, retrain: 6ep}",
        "{weights: final, retrain: 0it}",
        "{weights: init, clock: final, retrain: 0it}",
    ]
    lines = [lineage_rounds(alone(f"rewind={rewind}"), 0) for rewind in rewinds]
    assert len({line[0].key for line in lines}) == 1
    assert len({line[1].key for line in lines}) == len(rewinds)


def test_lengths_count_as_steps_however_they_are_written():
    one = alone("trainer.length=15ep", "rewind.weights=1ep", "eval.every=5%")
    other = alone("trainer.length=525it", "rewind.weights=35it", "eval.every=26it")
    assert keys(one) == keys(other)
    assert arm_id(one) == arm_id(other)


def test_arms_of_one_seed_share_the_trunk_and_seeds_do_not():
    trunks = {(line.seed, line.rounds[0].key) for line in lineages(study())}
    assert len(lineages(study())) == 8
    assert sorted(seed for seed, _ in trunks) == [0, 1]
    assert len({key for _, key in trunks}) == 2
    for line in lineages(study()):
        assert {round.trunk for round in line.rounds} == {line.rounds[0].key}


def test_all_rounds_but_the_trunk_belong_to_one_lineage():
    lines = lineages(study())
    pruned = [round.key for line in lines for round in line.rounds[1:]]
    assert len(pruned) == len(set(pruned)) == 8 * 6


@pytest.mark.parametrize(
    ("old", "new", "more"),
    [
        ("rounds: 3", "rounds: 5", 8 * 4),
        ("seeds: [0, 1]", "seeds: [7, 0, 1]", 4 * 6 + 1 + 4),
        ("[random-ticket]", "[reinit, random-ticket, random-global]", 8 * 6),
        ("[global, layerwise]", "[erk, global, layerwise]", 4 * 6 + 2 + 4),
        ("[init, 1ep]", "[init, 2ep, 1ep]", 4 * 6 + 2 + 4),
        ("name: scope-and-rewind", "name: another", 0),
        ("retries: 3", "retries: 0", 0),
        ("retries: 3", "retries: 3\ncheckpoint: 1ep", 0),
        ("retries: 3", "timeout: 30m", 0),
        ("retries: 3", "cohort: 1", 0),
        ("retries: 3", "keep: {what: last, densities: [0.2]}", 0),
        ("gpus: 0}", "memory: 2GB}", 0),
        ("cpus: 1, gpus: 0", "cpus: 2, gpus: 0.5", 0),
    ],
)
def test_extending_a_sweep_renames_nothing(old, new, more):
    before, after = names(study()), names(study((old, new)))
    assert before <= after
    assert len(after - before) == more


@pytest.mark.parametrize(
    "change",
    [
        "trainer.model=mlp-300-101",
        "trainer.length=14ep",
        "trainer.batch_size=50",
        "trainer.optimizer=adamw",
        "trainer.lr=0.0020001",
        "trainer.weight_decay=1e-9",
        "trainer.threads=2",
        "eval.every=10%",
    ],
)
def test_the_trainer_and_its_measurements_enter_every_key(change):
    assert not set(keys(alone())) & set(keys(alone(change)))
    assert arm_id(alone()) != arm_id(alone(change))


@pytest.mark.parametrize(
    "change",
    [
        "prune.score=random",
        "prune.scope=layerwise",
        "prune.fraction=0.21",
        "prune.only=['0']",
        "rewind.weights=1it",
        "rewind.clock=1it",
    ],
)
def test_pruning_and_rewinding_enter_every_key_but_the_trunks(change):
    before, after = keys(alone()), keys(alone(change))
    assert before[0] == after[0]
    assert not set(before[1:]) & set(after[1:])
    assert arm_id(alone()) != arm_id(alone(change))


def test_the_output_rate_counts_under_layerwise_alone():
    assert keys(alone("prune.output=full")) == keys(alone())
    layerwise, full = "prune.scope=layerwise", "prune.output=full"
    assert keys(alone(layerwise, full))[1:] != keys(alone(layerwise))[1:]


def test_pruned_biases_make_another_trunk_since_its_record_counts_them():
    with_biases = lineage_rounds(alone("prune.biases=true"), 0)
    assert with_biases[0].spec["biases"] is True
    assert with_biases[0].key != keys(alone())[0]
    assert all(round.biases for round in with_biases)


def test_what_is_excluded_makes_another_trunk_too():
    rounds = lineage_rounds(alone("prune.exclude=[fc.*, '*.downsample.*']"), 0)
    patterns = ("*.downsample.*", "fc.*")
    assert [round.exclude for round in rounds] == [patterns] * 4
    assert rounds[0].spec["exclude"] == list(patterns)
    assert rounds[1].spec["prune"]["exclude"] == list(patterns)
    assert not {round.key for round in rounds} & set(keys(alone()))
    assert keys(alone("prune.exclude=[]")) == keys(alone())
    assert all(round.exclude == () for round in lineage_rounds(alone(), 0))


def test_the_order_of_what_is_excluded_means_nothing():
    one, other = alone("prune.exclude=[a, b]"), alone("prune.exclude=[b, a, b]")
    assert keys(one) == keys(other)
    assert arm_id(one) == arm_id(other)


def test_what_alone_loses_weights_is_in_the_keys_of_pruned_rounds_if_it_is_said():
    plain, some = (lineage_rounds(alone(*sets), 0) for sets in ((), ("prune.only=[b, a]",)))
    assert some[0].spec == plain[0].spec, "arms that differ in it share the trunk"
    assert some[1].spec["prune"] == {**plain[1].spec["prune"], "only": ["a", "b"]}
    assert all(round.exclude == () for round in some), "the others are prunable all the same"
    for every in ("['*']", "['*', '*']", "['*', '0']"):
        assert keys(alone(f"prune.only={every}")) == keys(alone())
    assert arm_id(alone("prune.only=['*']")) == arm_id(alone())
    assert "only" not in plain[1].spec["prune"]


def test_the_order_of_what_alone_loses_weights_means_nothing():
    one, other = alone("prune.only=[a, b]"), alone("prune.only=[b, a, b]")
    assert keys(one) == keys(other)
    assert arm_id(one) == arm_id(other)


def test_what_alone_loses_weights_is_not_what_is_excluded():
    ways = [(), ("prune.only=['0']",), ("prune.exclude=['0']",), ("prune.only=['2']",)]
    assert len({keys(alone(*way))[1] for way in ways}) == len(ways)


def test_a_dense_round_that_looks_at_masks_is_one_of_what_alone_loses_weights():
    stop = "stop.rule=mask-difference"
    dense = lineage_rounds(alone(stop, "prune.only=[b, a]"), 0)[0]
    assert dense.spec["stop"]["prune"]["only"] == ["a", "b"]
    assert dense.key != keys(alone(stop))[0]


@pytest.mark.parametrize("name", ["study", "fine-tuned", "stopped"])
def test_how_often_a_round_is_put_aside_is_in_no_key(name):
    sets = {
        "study": (),
        "fine-tuned": ("rewind={weights: final, retrain: 5ep}", "controls=[reinit]"),
        "stopped": ("stop={rule: patience}",),
    }[name]
    often = alone(*sets, "checkpoint=1ep")
    assert keys(often) == keys(alone(*sets))
    assert arm_id(often) == arm_id(alone(*sets))
    assert [line.id for line in lineages(often)] == [line.id for line in lineages(alone(*sets))]


def test_a_ticket_that_is_not_trained_has_controls_with_fresh_weights_that_are():
    measured = ("rewind.weights=final", "rewind.retrain=0it", "controls=[reinit, permuted-mask]")
    _, ticket, reinit, permuted, *_ = lineage_rounds(alone(*measured), 0)
    assert (ticket.clock, ticket.end) == (permuted.clock, permuted.end) == (525, 525)
    assert (reinit.clock, reinit.end) == (0, 525)


def test_the_rate_of_convolutions_counts_under_layerwise_alone():
    assert keys(alone("prune.conv=0.1")) == keys(alone())
    layerwise, conv = "prune.scope=layerwise", "prune.conv=0.1"
    plain, other = keys(alone(layerwise)), keys(alone(layerwise, conv))
    assert plain[0] == other[0]
    assert not set(plain[1:]) & set(other[1:])
    assert keys(alone(layerwise, "prune.conv=0.2")) == plain, "the rate of all others"
    assert keys(alone(layerwise, "prune.conv=0.0"))[1:] != plain[1:]


def test_the_protocol_enters_every_key(monkeypatch):
    before = set(keys(alone())) | {arm_id(alone())}
    monkeypatch.setattr(ClassifierTrainer, "PROTOCOL", 2)
    assert not before & (set(keys(alone())) | {arm_id(alone())})


def sweep_of(trainer, *sets):
    """The study with another trainer model, its fields as in the file."""
    sweep = alone(*sets)
    model = create_model("AnotherSweep", __base__=Sweep, trainer=(trainer, ...))
    given = {**sweep.model_dump(exclude_unset=True), "axes": {}}
    return model.model_validate(given)


class MomentumByDefault(ClassifierTrainer):
    momentum: Annotated[float, Frozen(0.0)] = Field(0.9, ge=0, lt=1)


class WithSmoothing(ClassifierTrainer):
    label_smoothing: Annotated[float, Frozen(0.0)] = 0.0


def test_a_default_changed_later_renames_what_relies_on_it_and_nothing_else():
    sgd = "trainer.optimizer=sgd"
    relies, states = (sgd,), (sgd, "trainer.momentum=0.0")
    assert not set(keys(sweep_of(MomentumByDefault, *relies))) & set(keys(alone(*relies)))
    assert arm_id(sweep_of(MomentumByDefault, *relies)) != arm_id(alone(*relies))
    assert keys(sweep_of(MomentumByDefault, *states)) == keys(alone(*states))
    assert arm_id(sweep_of(MomentumByDefault, *states)) == arm_id(alone(*states))
    # Results from before the change are what a file that states the old value gets.
    assert keys(alone(*states)) == keys(alone(*relies))


def test_a_default_without_a_frozen_value_is_always_in_the_key():
    assert keys(alone("trainer.optimizer=adam")) == keys(sweep_of(ClassifierTrainer))
    assert lineage_rounds(alone(), 0)[1].spec["prune"]["score"] == "magnitude"


def test_a_new_field_that_says_nothing_renames_nothing():
    assert keys(sweep_of(WithSmoothing)) == keys(alone())
    assert arm_id(sweep_of(WithSmoothing)) == arm_id(alone())
    smooth = sweep_of(WithSmoothing)
    smooth = smooth.model_copy(
        update={"trainer": smooth.trainer.model_copy(update={"label_smoothing": 0.1})}
    )
    assert not set(keys(smooth)) & set(keys(alone()))


def test_every_field_of_a_sweep_is_known_to_count_or_not():
    """A new field has to say here whether it enters keys, and in rounds.py if it does."""
    counting = {"trainer", "prune", "rewind", "eval", "stop", "reset"}
    assert set(Sweep.model_fields) == counting | {
        "name", "seeds", "axes", "controls", "resources", "cohort", "checkpoint", "retries",
        "timeout", "keep",
    }  # fmt: skip
    assert set(Rewind.model_fields) == {"weights", "clock", "retrain"}
    assert "rounds" in Prune.model_fields
    assert get_args(Prune.model_fields["scope"].annotation) == ("global", "layerwise", "erk")


def test_fresh_weights_have_nothing_to_fine_tune_and_train_the_whole_schedule():
    tuning = ("rewind.weights=final", "rewind.retrain=2ep", "controls=[reinit, permuted-weights]")
    _, ticket, reinit, permuted, *_ = lineage_rounds(alone(*tuning), 0)
    assert (ticket.clock, ticket.end) == (525, 525 + 70)
    assert (permuted.clock, permuted.end) == (525, 525 + 70)
    assert (reinit.clock, reinit.end) == (0, 525)


def test_fresh_weights_do_not_depend_on_the_rewind_of_the_weights():
    """One experiment has one key: where the ticket's own weights come from is none of it."""
    one, other = (
        lineage_rounds(alone(*rewind, "controls=[reinit]"), 0)[2]
        for rewind in (("rewind.weights=init",), ("rewind.weights=final", "rewind.clock=init"))
    )
    assert one.key == other.key
