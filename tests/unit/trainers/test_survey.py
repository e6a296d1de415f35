"""Networks of dense layers are counted without torch, and the same as torch's own."""

from __future__ import annotations

import pytest

from raylottery.errors import UsageError
from raylottery.spec import Sweep, parse_sweep
from raylottery.trainers.skeletons import described
from raylottery.trainers.survey import Survey, plain, survey


CLASSIFIER = """
name: classifiers
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0]
"""
AGENT = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [8], length: 2000ts}
prune: {fraction: 0.5, rounds: 2}
seeds: [0]
"""
CLASSIFIERS = [
    *("model=mlp-1", "model=mlp-8", "model=mlp-7-5-3", "model=lenet-300-100"),
    *("model=residual-mlp-6-6", "model=residual-mlp-4-4-4-4"),
    *("dataset=cifar100", "dataset=mnist", "initialisation=kaiming"),
]
AGENTS = [
    *("hidden=[8]", "hidden=[9, 7]", "hidden=[]", "env=LunarLander-v3", "env=FrozenLake-v1"),
    *("dueling=true", "atoms=5", "normalise=true", "hidden=null"),
]
MIXED = ["trainer={kind: dqn, env: CartPole-v1, length: 2000ts, dueling: true, atoms: 3}"]
STUDIES = [
    *((CLASSIFIER, [f"trainer.{field}"]) for field in CLASSIFIERS),
    *((AGENT, [f"trainer.{field}"]) for field in AGENTS),
    (AGENT, MIXED),
    (AGENT, ["trainer.dueling=true", "trainer.hidden=[]"]),
]


def parsed(text: str, *sets: str) -> Sweep:
    return parse_sweep(text, overrides=sets)


def by_torch(study: Sweep) -> Survey:
    how = study.prune
    return Survey.of(*described(study.trainer, biases=how.biases, exclude=how.exclude))


@pytest.mark.parametrize("biases", ["false", "true"])
@pytest.mark.parametrize(("text", "sets"), STUDIES, ids=[" ".join(sets) for _, sets in STUDIES])
def test_a_network_of_dense_layers_is_counted_as_torch_makes_it(text, sets, biases):
    study = parsed(text, *sets, f"prune.biases={biases}")
    assert plain(study.trainer) is not None
    found, expected = survey(study), by_torch(study)
    assert found == expected
    assert list(found.shapes) == list(expected.shapes), "in the same order"


PATTERNS = {
    CLASSIFIER: ["0", "last", "2.weight", "*.bias", "*", "0.bias", "tow", "[02]", "0.weigth"],
    AGENT: ["body.0", "body.*", "head", "value", "*.bias", "head.bias", "heads.weight", "obs"],
}
FORMS = [
    *((CLASSIFIER, field) for field in ("model=mlp-8", "model=residual-mlp-6-6")),
    *((AGENT, field) for field in ("dueling=false", "dueling=true")),
]


@pytest.mark.parametrize("biases", ["false", "true"])
@pytest.mark.parametrize(("text", "form"), FORMS, ids=[form for _, form in FORMS])
def test_what_is_excluded_is_found_or_refused_in_the_same_words(text, form, biases):
    said = set()
    for pattern in PATTERNS[text]:
        sets = [f"trainer.{form}", f"prune.biases={biases}", f"prune.exclude=['{pattern}']"]
        study = parsed(text, *sets)
        assert told(survey, study) == told(by_torch, study), pattern
        said.add(type(told(survey, study)))
    assert said == {Survey, str}, "some are refused, some are not"


def told(look, study: Sweep) -> Survey | str:
    try:
        return look(study)
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (CLASSIFIER, ["trainer.model=conv-2", "trainer.dataset=mnist"]),
        (CLASSIFIER, ["trainer.model=tests.networks:small"]),
        (AGENT, ["trainer.model=minatar", "trainer.env=MinAtar/Breakout-v1"]),
    ],
)
def test_any_other_network_is_left_to_torch(text, sets):
    assert plain(parsed(text, *sets).trainer) is None
