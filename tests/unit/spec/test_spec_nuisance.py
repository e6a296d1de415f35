"""Nuisance inputs in a sweep file: which input is what, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylottery.sizes import dense
from raylottery.spec import ClassifierTrainer, expand, lineage_rounds
from raylottery.spec.nuisance import NAMES, input_kinds
from tests.unit.spec.samples import AGENT, STUDY, agent, alone, altered, dqn, refusal


def test_inputs_are_told_by_kind_source_and_name():
    trainer = dqn("trainer.nuisance={noise: 2, duplicates: 5}")
    own = NAMES["CartPole"]
    assert input_kinds(trainer, 11) == [
        *((place, "own", place, name) for place, name in enumerate(own)),
        (4, "noise", None, "noise 0"),
        (5, "noise", None, "noise 1"),
        *((6 + place, "duplicate", place, f"{name} again") for place, name in enumerate(own)),
        (10, "duplicate", 0, "position again 2"),
    ]


def test_without_nuisance_all_inputs_are_the_tasks_own():
    assert [(i.index, i.kind, i.source) for i in input_kinds(dqn(), 4)] == [
        (place, "own", place) for place in range(4)
    ]
    assert input_kinds(dqn("trainer.env=tests.games:ladder"), 2)[1].name == "input 1"


@given(own=st.integers(1, 50), noise=st.integers(0, 20), duplicates=st.integers(0, 80))
def test_every_input_is_told_once_and_in_order(own, noise, duplicates):
    extra = f"{{noise: {noise}, duplicates: {duplicates}}}"
    found = input_kinds(alone(f"trainer.nuisance={extra}").trainer, own + noise + duplicates)
    assert [one.index for one in found] == list(range(own + noise + duplicates))
    kinds = ["own"] * own + ["noise"] * noise + ["duplicate"] * duplicates
    assert [one.kind for one in found] == kinds
    assert [one.source for one in found if one.kind == "own"] == list(range(own))
    for place, one in enumerate(found[own + noise :]):
        assert one.source == place % own
    assert len({one.name for one in found}) == len(found)


def test_a_network_too_narrow_for_its_nuisance_is_no_network():
    with pytest.raises(ValueError, match="3 inputs cannot end with 3 of nuisance"):
        input_kinds(dqn("trainer.nuisance.noise=3"), 3)


def test_the_network_is_wider_and_the_data_set_is_not():
    trainer = alone("trainer.nuisance={noise: 3, duplicates: 2}").trainer
    assert isinstance(trainer, ClassifierTrainer)
    assert trainer.packed_size.shape == (40,)
    assert trainer.size.shape == (45,)
    shape = dense.classifier(trainer)
    assert shape is not None
    assert shape.shapes["0.weight"] == (300, 45)


# Keys


@pytest.mark.parametrize("study", [alone, agent])
def test_it_enters_keys_only_where_it_adds_something(study):
    def keys(*sets):
        return [round.key for round in lineage_rounds(study(*sets), 0)]

    plain = keys()
    assert keys("trainer.nuisance={}") == plain
    assert keys("trainer.nuisance={noise: 0, duplicates: 0, scale: 1.0}") == plain
    others = ["{noise: 1}", "{duplicates: 1}", "{noise: 1, scale: 2.0}"]
    forks = {tuple(keys(f"trainer.nuisance={other}")) for other in others}
    assert len(forks | {tuple(plain)}) == 4


def test_its_fields_are_axes():
    sweep = agent("axes={trainer.nuisance.noise: [0, 4], trainer.nuisance.duplicates: [0, 2]}")
    arms = [arm.study.trainer.nuisance for arm in expand(sweep)]
    assert [(extra.noise, extra.duplicates) for extra in arms] == [(0, 0), (0, 2), (4, 0), (4, 2)]


# Refusals


FIELDS = "trainer.nuisance.noise, trainer.nuisance.duplicates, trainer.nuisance.scale"
CASES = [
    (AGENT, "lr: 0.001", "nuisance: {noise: 1}\n  model: minatar\n  hidden: [128]",
     "11: trainer.nuisance: is for flat observations, and model: minatar is for images; leave one "
     "of them out."),
    (AGENT, "lr: 0.001", "nuisance: {duplicates: 1}\n  preprocess: atari",
     "11: trainer.nuisance: is for flat observations, and preprocess: atari is for images; leave "
     "one of them out."),
    (AGENT, "lr: 0.001", "nuisance: {nois: 1}",
     "11: trainer.nuisance.nois: no such field. Did you mean 'noise'?"),
    (AGENT, "lr: 0.001", "nuisance: {scale: 2.0}",
     "11: trainer.nuisance.scale: means nothing without noise; leave it out, or set noise."),
    (AGENT, "lr: 0.001", "nuisance: 4",
     "11: trainer.nuisance: expected a section with fields of its own, found 4. (Inputs that tell "
     "nothing new, added to flat observations.)"),
    (AGENT, "prune.scope: [global, layerwise]", "trainer.nuisance: [1, 2]",
     f"19: axes.trainer.nuisance: a section is no axis; vary one of {FIELDS}."),
    (STUDY, "dataset: mnist1d", "dataset: cifar10\n  nuisance: {noise: 4}",
     "5: trainer.nuisance: is for data without images, and cifar10 has some; leave it out, or "
     "say dataset: mnist1d."),
    (STUDY, "dataset: mnist1d", "dataset: mnist1d\n  nuisance: {noise: -1}",
     "5: trainer.nuisance.noise: must be at least 0, not -1. (Inputs of Gaussian noise.)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "message"), CASES)
def test_a_fault_is_named_with_its_line_and_its_mend(text, old, new, message):
    text = text.replace("  hidden: [64, 64]\n", "") if "hidden" in new else text
    lines = [line.split(":", 1)[1] for line in refusal(altered((old, new), text=text))]
    assert message.split(":", 1)[1] in {line.split(":", 1)[1] for line in lines}
