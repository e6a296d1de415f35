from __future__ import annotations

import numpy as np
import pytest

from raylottery.analysis import compare
from raylottery.errors import UsageError


SCOPES = {"prune.scope": ["global", "layerwise"]}


def flat(values, seed, control, density):
    return 0.5 + seed / 100


def refusal(frame, by="prune.scope", **options) -> str:
    with pytest.raises(UsageError) as caught:
        compare(frame, by, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_unknown_field_names_the_nearest(study):
    study.write(flat, axes=SCOPES)
    assert refusal(study.load(), "prune.scop") == (
        "no field 'prune.scop' to compare by. Did you mean 'prune.scope'?"
    )
    assert "'prune.scope'" in refusal(study.load(), "scope")


@pytest.mark.parametrize("name", ["name", "seeds", "retries", "resources.cpus", "prune.rounds"])
def test_bookkeeping_is_no_field_to_compare_by(study, name):
    study.write(flat, axes=SCOPES)
    assert refusal(study.load(), name).startswith(f"no field {name!r} to compare by.")


def test_a_field_with_one_value_says_what_varies(study):
    study.write(flat, axes=SCOPES | {"trainer.lr": [0.1, 0.2]})
    assert refusal(study.load(), "prune.fraction") == (
        "prune.fraction is 0.5 in every lineage, and a comparison needs two values. "
        "What varies here: trainer.lr, prune.scope."
    )


def test_a_sweep_without_axes_has_nothing_to_compare(study):
    study.write(flat)
    assert refusal(study.load()).endswith(
        "needs two values. Add an axis to the sweep, such as axes: {prune.scope: [...]}, or "
        "compare tickets with their controls: --by control."
    )


def test_without_controls_there_is_nothing_to_compare_tickets_with(study):
    study.write(flat, axes=SCOPES)
    assert "no finished controls" in refusal(study.load(), "control")


def test_a_density_outside_the_data_states_the_range(study):
    deep = {"global": (1.0, 0.3, 0.0321), "layerwise": (1.0, 0.4, 0.0801234)}
    study.write(flat, axes=SCOPES, densities=lambda values: deep[values["prune.scope"]])
    message = refusal(study.load(), at_density=[0.5, 0.05])
    assert message.startswith("density 0.05 is outside the data")
    assert "from 0.0801 to 1." in message
    assert "0.1 for 10 %" in refusal(study.load(), at_density=10)
    for printed in (0.0801, 0.0801234, 1.0):
        assert compare(study.load(), "prune.scope", at_density=printed).effects[0].n == 3


def test_one_density_alone_is_asked_for_as_it_is_printed(study):
    study.write(flat, axes=SCOPES, densities=lambda values: (0.068684,))
    assert compare(study.load(), "prune.scope", at_density=0.0687).effects[0].n == 3
    assert "measured at 0.0687 alone." in refusal(study.load(), at_density=0.07)


@pytest.mark.parametrize("density", [0, -0.1, 1.5, float("nan"), float("inf")])
def test_what_is_no_density_is_refused(study, density):
    study.write(flat, axes=SCOPES)
    assert "outside the data" in refusal(study.load(), at_density=density)


def test_an_unknown_metric_names_the_nearest(study):
    study.write(flat, axes=SCOPES)
    assert refusal(study.load(), metric="score_bets") == (
        "no score column 'score_bets'. Did you mean 'score_best'?"
    )


def test_a_metric_without_a_value_is_refused(study):
    study.write(flat, axes=SCOPES)
    for metric in ("supermask_score", "score_late"):
        assert f"has a {metric}" in refusal(study.load(), metric=metric)


def test_an_unknown_reference_names_the_nearest(study):
    study.write(flat, axes=SCOPES)
    assert refusal(study.load(), against="layerwize") == (
        "prune.scope is never layerwize. Did you mean 'layerwise'?"
    )


def test_networks_of_unequal_size_are_not_compared(study):
    study.write(
        flat,
        axes={"trainer.model": ["mlp-300-100", "mlp-500-100"]},
        prunable=lambda values: 43_000 if "300" in values["trainer.model"] else 71_000,
    )
    message = refusal(study.load(), "trainer.model")
    assert "mlp-500-100 prunes among 71,000 parameters, mlp-300-100 among 43,000" in message


def test_trainings_of_unequal_length_are_not_compared(study):
    study.write(flat, name="one", axes={"prune.scope": ["global"]})
    study.write(
        flat, name="two", axes={"prune.scope": ["layerwise"]}, spec={"trainer.length": "30ep"}
    )
    message = refusal(study.load("one", "two"))
    assert "differ in length (15ep with global, 30ep with layerwise)" in message


def test_length_as_an_axis_of_its_own_is_held_equal_or_compared(study):
    study.write(flat, axes=SCOPES | {"trainer.length": ["15ep", "30ep"]})
    (by_scope,) = compare(study.load(), "prune.scope", at_density=0.5).effects
    (by_length,) = compare(study.load(), "trainer.length", at_density=0.5).effects
    assert (by_scope.pairs, by_length.pairs) == (6, 6)


def test_accuracies_and_returns_are_not_compared(study):
    study.write(flat, name="one", axes=SCOPES)
    study.write(flat, name="two", axes=SCOPES, metric="return", spec={"trainer.kind": "dqn"})
    assert "accuracy and others return" in refusal(study.load("one", "two"))


def test_values_that_never_share_a_seed_and_the_rest_are_refused(study):
    zipped = [
        {"prune.scope": "global", "prune.fraction": 0.2},
        {"prune.scope": "layerwise", "prune.fraction": 0.3},
        {"prune.scope": "global", "prune.fraction": 0.4},
    ]
    study.write(flat, zipped=zipped)
    message = refusal(study.load())
    assert message.startswith("no two lineages have the same seed and differ in prune.scope alone")
    assert "What else varies: prune.fraction" in message
    assert "--by arm_label" in message


def test_values_without_a_finished_round_in_common_are_refused(study):
    def one_side(values, seed, control, density):
        return None if values["prune.scope"] == "layerwise" else 0.5

    study.write(one_side, axes=SCOPES)
    assert "no pair of lineages has finished rounds at the same density" in refusal(study.load())


def test_a_score_that_is_no_number_makes_its_pair_missing(study):
    def broken(values, seed, control, density):
        hole = seed == 1 and density == 0.25 and values["prune.scope"] == "global"
        return np.nan if hole else 0.5 + seed * density

    study.write(broken, axes=SCOPES)
    found = compare(study.load(), "prune.scope", at_density=[0.5, 0.25, 0.2, 0.125])
    assert [effect.missing for effect in found.effects] == [0, 1, 1, 0]
