from __future__ import annotations

import pickle

import pytest

from raylottery.errors import SpecError
from raylottery.spec import Sweep, expand, lineages
from raylottery.spec.expand import _label
from tests.unit.spec.samples import alone, study


def labels(sweep):
    return [arm.label for arm in expand(sweep)]


def test_arms_are_the_product_of_the_axes_in_the_files_order():
    assert labels(study()) == [
        "scope=global weights=init",
        "scope=global weights=1ep",
        "scope=layerwise weights=init",
        "scope=layerwise weights=1ep",
    ]


def test_lineages_come_seed_by_seed():
    assert [(line.seed, line.arm.label) for line in lineages(study())] == [
        (seed, label) for seed in (0, 1) for label in labels(study())
    ]


def test_ids_are_12_hex_and_each_lineage_has_its_own():
    ids = [line.id for line in lineages(study())] + [arm.id for arm in expand(study())]
    assert len(set(ids)) == 8 + 4
    assert all(len(id) == 12 and set(id) <= set("0123456789abcdef") for id in ids)


def test_an_arm_holds_its_values_and_a_study_without_axes():
    arm = expand(study())[3]
    assert arm.values == {"prune.scope": "layerwise", "rewind.weights": "1ep"}
    assert arm.study.prune.scope == "layerwise"
    assert str(arm.study.rewind.weights) == "1ep"
    assert arm.study.axes == {}
    changed = {"prune", "rewind", "axes"}
    assert arm.study.model_dump(exclude=changed) == study().model_dump(exclude=changed)


def test_values_are_those_of_the_fields_however_they_are_written():
    arms = expand(alone("axes.trainer.lr=[1, 2e-3]", "axes.rewind.weights=[1.0ep]"))
    assert [arm.values for arm in arms] == [
        {"trainer.lr": 1.0, "rewind.weights": "1ep"},
        {"trainer.lr": 0.002, "rewind.weights": "1ep"},
    ]
    assert [arm.label for arm in arms] == ["lr=1.0 weights=1ep", "lr=0.002 weights=1ep"]


def test_a_sweep_without_axes_has_one_arm():
    assert labels(alone()) == ["base"]
    assert [line.seed for line in lineages(alone())] == [0, 1]


def test_zip_pairs_values_and_is_one_axis_of_the_product():
    sweep = alone(
        "axes.zip.rewind.weights=[init, final, final]",
        "axes.zip.rewind.clock=[init, init, final]",
        "axes.zip.rewind.retrain=[null, null, 5ep]",
        "axes.prune.scope=[global, erk]",
    )
    assert labels(sweep) == [
        f"weights={weights} clock={clock} retrain={retrain} scope={scope}"
        for weights, clock, retrain in [
            ("init", "init", "none"),
            ("final", "init", "none"),
            ("final", "final", "5ep"),
        ]
        for scope in ("global", "erk")
    ]


def test_resources_follow_an_axis_without_being_one():
    sweep = alone(
        "axes.zip.trainer.model=[mlp-32, mlp-3000]",
        "axes.zip.resources.cpus=[1, 2]",
    )
    assert [arm.study.resources.cpus for arm in expand(sweep)] == [1, 2]
    assert [arm.label for arm in expand(sweep)] == ["model=mlp-32", "model=mlp-3000"]
    plain = expand(alone("axes.trainer.model=[mlp-32, mlp-3000]"))
    assert [(arm.id, arm.values) for arm in expand(sweep)] == [
        (arm.id, arm.values) for arm in plain
    ]


def test_a_label_says_the_whole_field_where_its_end_is_another_fields_too():
    sweep = alone("axes.prune.score=[random]", "axes.trainer.lr=[1]")
    assert labels(sweep) == ["score=random lr=1.0"]
    # No two fields of today end alike, so the ambiguity takes a field that is none.
    assert _label({"eval.every": "5%", "stop.every": True, "prune.scope": "erk"}) == (
        "eval.every=5% stop.every=true scope=erk"
    )


def test_an_arm_has_one_id_in_every_sweep():
    [arm] = expand(alone("prune.scope=layerwise", "rewind.weights=1ep", "name=x", "seeds=[5]"))
    assert arm.id == expand(study())[3].id


def test_arms_and_lineages_can_be_sent_elsewhere():
    for line in lineages(study()):
        sent = pickle.loads(pickle.dumps(line))
        assert sent == line
        assert [round.key for round in sent.rounds] == [round.key for round in line.rounds]
        assert Sweep.model_validate_json(line.arm.study.model_dump_json()) == line.arm.study
    assert len({hash(line) for line in lineages(study())}) == 8
    assert len({round for line in lineages(study()) for round in line.rounds}) == 2 + 8 * 6


def test_expanding_a_sweep_made_in_python_refuses_with_the_keys():
    sweep = Sweep.model_validate(
        {
            **alone().model_dump(),
            "axes": {"rewind.weights": ["init", "0it"], "trainer.lr": [-1, 1]},
        }
    )
    with pytest.raises(SpecError) as caught:
        expand(sweep)
    assert str(caught.value).splitlines() == [
        "axes.trainer.lr[0]: must be above 0, not -1. (Learning rate.)",
        "axes: the arms `weights=init lr=1.0` and `weights=0it lr=1.0` mean the same; "
        "keep one of them.",
    ]


def test_more_arms_than_anyone_means_are_refused_at_once():
    values = list(range(1, 101))
    axes = [f"axes.{path}={values}" for path in ("trainer.lr", "trainer.threads")]
    axes += [f"axes.trainer.batch_size={values}"]
    with pytest.raises(SpecError, match="1000000 arms are more than 4096; make several sweeps"):
        alone(*axes)
