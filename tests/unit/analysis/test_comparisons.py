from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from raylottery.analysis import compare


SCOPES = {"prune.scope": ["global", "layerwise"]}
SCOPE_BY_REWIND = SCOPES | {"rewind.weights": ["init", "1ep"]}

LEAD = {"global": 0.04, "layerwise": 0.0, "init": 0.0, "1ep": -0.01}


def known(values, seed, control, density):
    """Seeds differ by 10 points, density costs, and each value adds its lead but for an echo."""
    echo = 0.002 * math.cos(3 * seed + 5 * sum(map(len, map(str, values.values()))))
    lead = sum(LEAD[value] for value in values.values())
    own = 0.0 if density == 1 else lead + echo - (0.12 if control != "ticket" else 0.0)
    return 0.5 + 0.1 * seed + 0.03 * math.log(density) + own


def test_a_known_effect_is_recovered_within_its_interval(study):
    study.write(known, axes=SCOPE_BY_REWIND)
    found = compare(study.load(), "prune.scope", against="layerwise", at_density=0.25)
    (effect,) = found.effects
    assert (effect.value, effect.reference, effect.n, effect.pairs) == (
        "global",
        "layerwise",
        3,
        6,
    )
    assert effect.effect == pytest.approx(0.04, abs=0.003)
    assert (effect.low, effect.high) == pytest.approx((0.0325, 0.0495), abs=1e-4)
    assert found.notes == ("Differences are averaged over rewind.weights within each seed.",)
    assert (effect.mean_value, effect.mean_reference) == pytest.approx((0.5939, 0.5529), abs=1e-4)
    assert effect.missing == 0


def test_the_figures_are_scipys_over_seeds_after_averaging_the_other_axes(study):
    study.write(known, axes=SCOPE_BY_REWIND)
    (effect,) = compare(study.load(), "prune.scope", at_density=0.25).effects
    by_seed = [
        np.mean(
            [
                [
                    known({"s": scope, "w": weights}, seed, "ticket", 0.25)
                    for weights in ("init", "1ep")
                ]
                for scope in ("layerwise", "global")
            ],
            axis=1,
        )
        for seed in (0, 1, 2)
    ]
    layerwise, global_ = np.transpose(by_seed)
    expected = scipy.stats.ttest_rel(layerwise, global_)
    interval = expected.confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert effect.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert effect.n == 3


def test_the_sentence_is_what_a_person_would_say(study):
    gains = {0: 0.035, 1: 0.041, 2: 0.047}
    study.write(
        lambda values, seed, control, density: (
            0.6 + 0.1 * seed + gains[seed] * (values["prune.scope"] == "global")
        ),
        axes=SCOPES,
    )
    assert compare(study.load(), "prune.scope", at_density=0.125).sentences == (
        "At 12.5 % density global beats layerwise by 4.1 points of accuracy, "
        "95 % interval 2.6 to 5.6, 3 paired seeds (p = 0.007).",
    )


def test_the_winner_is_named_first_whichever_is_the_reference(study):
    study.write(known, axes=SCOPES)
    frame = study.load()
    one, two = (
        compare(frame, "prune.scope", at_density=0.25, against=against)
        for against in ("global", "layerwise")
    )
    effects = (one.effects[0].effect, two.effects[0].effect)
    assert effects == pytest.approx((-0.0396, 0.0396), abs=1e-4)
    assert one.sentences == two.sentences
    assert one.sentences[0].startswith("At 25 % density global beats layerwise by 4.")


def test_data_that_cannot_tell_are_said_not_to(study):
    gains = {0: 0.02, 1: -0.03, 2: 0.022}
    study.write(
        lambda values, seed, control, density: (
            0.6 + gains[seed] * (values["prune.scope"] == "layerwise")
        ),
        axes=SCOPES,
    )
    (sentence,) = compare(study.load(), "prune.scope", at_density=0.125).sentences
    assert sentence == (
        "At 12.5 % density the data cannot tell layerwise from global: a difference of 0.4 points "
        "of accuracy, 95 % interval -6.9 to 7.7, 3 paired seeds (p = 0.84). About 428 seeds would "
        "tell a difference of this size 4 times in 5."
    )


def test_an_effect_that_unpaired_seeds_would_hide_is_found(study):
    study.write(known, axes=SCOPES)
    (effect,) = compare(study.load(), "prune.scope", at_density=0.25).effects
    seeds = np.array([0.0, 0.1, 0.2])
    assert scipy.stats.ttest_ind(seeds + 0.04, seeds).pvalue > 0.6
    assert effect.p == pytest.approx(0.0005, abs=1e-4)


def test_n_counts_seeds_and_not_arms(study):
    study.write(known, axes=SCOPE_BY_REWIND)
    (effect,) = compare(study.load(), "rewind.weights", at_density=0.5).effects
    assert (effect.n, effect.pairs) == (3, 6)


def test_arms_are_compared_at_the_density_they_reached_not_at_the_round(study):
    """Scores depend on density alone, and one scope prunes faster: no difference is left."""
    reached = {"global": (1.0, 0.5, 0.25, 0.125), "layerwise": (1.0, 0.6, 0.36, 0.216, 0.13)}
    study.write(
        lambda values, seed, control, density: 0.6 + 0.1 * seed + 0.05 * math.log(density),
        axes=SCOPES,
        densities=lambda values: reached[values["prune.scope"]],
    )
    found = compare(study.load(), "prune.scope")
    assert [effect.density for effect in found.effects] == [0.5, 0.2]
    assert [effect.effect for effect in found.effects] == [0.0, 0.0]
    assert found.sentences[1] == (
        "At 20 % density global and layerwise are equal in all 3 paired seeds."
    )


def test_a_shared_dense_network_is_equal_in_all_seeds(study):
    study.write(known, axes=SCOPES)
    (effect,) = compare(study.load(), "prune.scope", at_density=1.0).effects
    assert (
        effect.sentence == "At 100 % density global and layerwise are equal in all 3 paired seeds."
    )
    assert (effect.effect, effect.low, effect.p) == (0.0, None, None)


def test_one_seed_is_not_called_a_finding(study):
    study.write(known, axes=SCOPES, seeds=[4])
    (effect,) = compare(study.load(), "prune.scope", at_density=0.25).effects
    assert (effect.n, effect.low, effect.high, effect.p) == (1, None, None, None)
    assert "global is 3." in effect.sentence or "global is 4." in effect.sentence
    assert effect.sentence.endswith(
        "ahead of layerwise in the one paired seed; one seed cannot tell this from chance."
    )


def test_the_densities_left_out_are_the_usual_ones_that_every_arm_reached(study):
    deep = {"global": (1.0, 0.3, 0.03), "layerwise": (1.0, 0.4, 0.08)}
    study.write(known, axes=SCOPES, densities=lambda values: deep[values["prune.scope"]])
    found = compare(study.load(), "prune.scope")
    assert [effect.density for effect in found.effects] == [0.5, 0.2, 0.1]


def test_where_no_usual_density_fits_the_lowest_common_one_is_taken(study):
    deep = {"global": (1.0, 0.8), "layerwise": (1.0, 0.9, 0.81)}
    study.write(known, axes=SCOPES, densities=lambda values: deep[values["prune.scope"]])
    found = compare(study.load(), "prune.scope")
    assert [effect.density for effect in found.effects] == [0.81]


def test_a_sweep_half_done_uses_the_pairs_there_are_and_counts_the_rest(study):
    def half(values, seed, control, density):
        late = seed == 2 and values["prune.scope"] == "layerwise"
        return None if late and density < 0.5 else known(values, seed, control, density)

    study.write(half, axes=SCOPES, seeds=[0, 1, 2])
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25])
    assert [(effect.n, effect.missing) for effect in found.effects] == [(3, 0), (2, 1)]
    assert found.sentences[1].endswith(
        "2 paired seeds (p = 0.016, Holm p = 0.016). 1 of 3 pairs is missing."
    )
    assert found.notes[-1] == (
        "1 of 6 lineages is unfinished. See `raylottery status study`; `raylottery run` goes on "
        "with them."
    )
    default = compare(study.load(), "prune.scope")
    assert [(effect.density, effect.n) for effect in default.effects] == [(0.5, 3), (0.2, 2)]


def test_a_density_that_one_value_never_reached_has_no_figures(study):
    deep = {"erk": (1.0, 0.5), "global": (1.0, 0.5, 0.25), "layerwise": (1.0, 0.5, 0.25)}
    study.write(
        lambda values, seed, control, density: 0.5 + 0.01 * seed,
        axes={"prune.scope": list(deep)},
        densities=lambda values: deep[values["prune.scope"]],
    )
    found = compare(study.load(), "prune.scope", at_density=0.3, against="global")
    erk, layerwise = found.effects
    assert (erk.n, erk.effect, erk.missing, layerwise.n) == (0, None, 3, 3)
    assert erk.sentence == (
        "At 30 % density no pair of erk and global is measured: 3 of 3 pairs are missing."
    )


def test_rewinding_says_how_long_each_side_trained(study):
    study.write(
        known,
        axes=SCOPE_BY_REWIND,
        steps=lambda values: 525 if values["rewind.weights"] == "init" else 490,
    )
    (effect,) = compare(study.load(), "rewind.weights", at_density=0.25).effects
    assert (effect.value, effect.reference) == ("1ep", "init")
    assert (effect.updates_value, effect.updates_reference) == (490, 525)
    assert effect.effect == pytest.approx(-0.01, abs=0.003)
    assert "weights=init beats weights=1ep by 1." in effect.sentence
    assert effect.sentence.endswith("Updates trained a round: weights=1ep 490, weights=init 525.")


def test_tickets_are_compared_with_each_control_of_the_same_lineage(study):
    study.write(known, axes=SCOPE_BY_REWIND, controls=["random-ticket", "reinit"])
    found = compare(study.load(), "control", at_density=0.25)
    assert [(one.value, one.reference) for one in found.effects] == [
        ("ticket", "random-ticket"),
        ("ticket", "reinit"),
    ]
    first = found.effects[0]
    assert first.effect == pytest.approx(0.12)
    assert (first.n, first.pairs) == (3, 12)
    assert found.notes == (
        "Differences are averaged over the arms within each seed.",
        "The 2 pairs of values are not corrected for each other.",
    )
    assert "tickets are 12.0 points of accuracy ahead of random-ticket" in first.sentence


def test_a_control_can_be_the_reference_of_the_others(study):
    study.write(known, axes=SCOPES, controls=["random-ticket", "reinit"])
    found = compare(study.load(), "control", at_density=0.25, against="reinit")
    assert [(one.value, one.effect) for one in found.effects] == [
        ("ticket", pytest.approx(0.12)),
        ("random-ticket", pytest.approx(0.0)),
    ]


def test_controls_do_not_enter_a_comparison_of_arms(study):
    study.write(known, axes=SCOPES)
    study.write(known, name="controlled", axes=SCOPES, controls=["random-ticket"])
    plain, controlled = (
        compare(study.load(name), "prune.scope", at_density=0.25).effects[0]
        for name in ("study", "controlled")
    )
    assert plain == controlled


def test_several_draws_of_a_control_are_one_cell(study):
    study.write(known, axes=SCOPES, controls=["random-ticket"])
    rounds = study.load().rounds.drop(columns="prune.scope")
    second = rounds[rounds["control"] == "random-ticket"].assign(draw=1)
    second["score"] -= 0.02
    study.put("study", "rounds", pd.concat([rounds, second]))
    (effect,) = compare(study.load(), "control", at_density=0.25).effects
    assert effect.effect == pytest.approx(0.13)
    assert (effect.n, effect.pairs) == (3, 6)


def test_a_return_is_spoken_in_return(study):
    gains = {0: 30.0, 1: 34.0, 2: 38.0}
    study.write(
        lambda values, seed, control, density: (
            200.0 + 40 * seed + gains[seed] * (values["prune.scope"] == "global")
        ),
        axes=SCOPES,
        metric="return",
    )
    (sentence,) = compare(study.load(), "prune.scope", at_density=0.5).sentences
    assert sentence == (
        "At 50 % density global beats layerwise by 34.0 in return, 95 % interval 24.1 to 43.9, "
        "3 paired seeds (p = 0.005)."
    )


def test_the_lower_loss_wins(study):
    study.write(known, axes=SCOPES)
    (effect,) = compare(study.load(), "prune.scope", at_density=0.25, metric="loss").effects
    assert effect.effect == pytest.approx(0.04, abs=0.003)
    assert "global beats layerwise by 0.04" in effect.sentence
    assert "in loss" in effect.sentence


def test_rows_are_plain_and_whole(study):
    study.write(known, axes=SCOPES)
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25])
    rows = found.to_rows()
    assert [row["density"] for row in rows] == [0.5, 0.25]
    assert rows[0]["by"] == "prune.scope"
    assert (rows[0]["metric"], rows[0]["stored_as"]) == ("score", "accuracy")
    assert [row["sentence"] for row in rows] == list(found.sentences)
    assert {type(value) for row in rows for value in row.values()} == {str, int, float}


def test_a_lineage_that_two_sweeps_share_counts_once(study):
    study.write(known, axes=SCOPES)
    study.write(known, name="again", axes=SCOPES)
    once = compare(study.load(), "prune.scope")
    assert compare(study.load("study", "again"), "prune.scope").effects == once.effects


def test_two_sweeps_are_compared_by_what_differs_between_them(study):
    study.write(known, name="one", axes={"prune.scope": ["global"]})
    study.write(known, name="two", axes={"prune.scope": ["layerwise"]}, spec={"trainer.lr": 0.1})
    found = compare(study.load("one", "two"), "prune.scope", at_density=0.25)
    assert found.effects[0].n == 3
    assert found.notes == (
        "trainer.lr changes together with prune.scope (0.002 with global, 0.1 with layerwise): "
        "the effect is of both.",
    )


def test_zipped_axes_are_compared_as_whole_arms(study):
    zipped = [
        {"prune.scope": "global", "rewind.weights": "init"},
        {"prune.scope": "layerwise", "rewind.weights": "1ep"},
    ]
    study.write(known, zipped=zipped)
    by_arm = compare(study.load(), "arm_label", at_density=0.25)
    assert by_arm.effects[0].n == 3
    assert by_arm.effects[0].effect == pytest.approx(-0.05, abs=0.003)
    assert by_arm.notes == ()
    by_scope = compare(study.load(), "prune.scope", at_density=0.25)
    assert by_scope.effects[0].effect == by_arm.effects[0].effect
    assert "rewind.weights changes together with prune.scope" in by_scope.notes[0]


def test_values_are_listed_as_people_list_them(study):
    study.write(
        lambda values, seed, control, density: 0.5,
        axes={"rewind.weights": ["final", "500it", "50it", "init"]},
    )
    found = compare(study.load(), "rewind.weights", at_density=0.5)
    assert [(one.value, one.reference) for one in found.effects] == [
        ("50it", "init"),
        ("500it", "init"),
        ("final", "init"),
    ]


def test_numbers_are_named_with_their_field(study):
    study.write(
        lambda values, seed, control, density: 0.5 + 0.1 * values["prune.fraction"],
        axes={"prune.fraction": [0.5, 0.2]},
    )
    (effect,) = compare(study.load(), "prune.fraction", at_density=0.5).effects
    assert (effect.value, effect.reference) == ("0.5", "0.2")
    assert effect.sentence.startswith(
        "At 50 % density fraction=0.5 is 3.0 points of accuracy ahead of fraction=0.2 by the same"
    )


@pytest.mark.parametrize(
    ("third", "said"),
    [
        (0.0134, "beats layerwise by 2.11 points of accuracy, 95 % interval 0.04 to 4.19"),
        (0.0130, "a difference of -2.1 points of accuracy, 95 % interval -4.2 to 0.0"),
    ],
)
def test_an_interval_that_excludes_zero_is_not_rounded_onto_it(study, third, said):
    gains = {0: 0.02, 1: 0.03, 2: third}
    study.write(
        lambda values, seed, control, density: (
            0.6 + gains[seed] * (values["prune.scope"] == "global")
        ),
        axes=SCOPES,
    )
    assert said in compare(study.load(), "prune.scope", at_density=0.5).sentences[0]
