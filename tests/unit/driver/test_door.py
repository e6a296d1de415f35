"""What is refused at the door: networks that cannot be made, and rounds that cannot be pruned."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raylottery.driver.guess import guess
from raylottery.driver.plan import Plan, inspect, make_plan
from raylottery.errors import UsageError
from raylottery.spec import parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers import survey as surveys
from raylottery.trainers.survey import refuse_too_deep, survey


SWEEP = """
name: door
trainer: {kind: classifier, dataset: mnist1d, model: mlp-8, length: 2ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
seeds: [0, 1]
"""
AGENTS = """
name: agents
trainer: {kind: dqn, env: CartPole-v1, hidden: [8], length: 2000ts}
prune: {fraction: 0.5, rounds: 2}
seeds: [0]
"""


def planned(*sets: str, text: str = SWEEP) -> Plan:
    return make_plan(parse_sweep(text, overrides=sets), None)


def study(*sets: str, text: str = SWEEP):
    return planned(*sets, text=text).lineages[0].arm.study


# What a network is


def test_the_sizes_of_a_classifier():
    found = survey(study())
    assert found.prunable == {"0.weight": 40 * 8, "2.weight": 8 * 10}
    assert list(found.prunable) == ["0.weight", "2.weight"]
    assert found.layers.output == ("2.weight",)
    assert found.total_params == 40 * 8 + 8 + 8 * 10 + 10


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (SWEEP, ()),
        (SWEEP, ("prune.biases=true",)),
        (SWEEP, ("trainer.model=residual-mlp-16-16-16", "prune.biases=true")),
        (AGENTS, ()),
        (SWEEP, ("trainer.model=residual-mlp-16-16", "prune.exclude=[last]")),
        (AGENTS, ("trainer.dueling=true", "prune.biases=true")),
        (AGENTS, ("trainer.dueling=true", "prune.exclude=[advantage]")),
        (AGENTS, ("trainer.normalise=true", "trainer.atoms=5", "trainer.hidden=[]")),
    ],
)
def test_a_survey_finds_what_the_trainer_does(text, sets):
    asked = study(*sets, text=text)
    found = survey(asked)
    trainer = make_trainer(asked, gpu=False)
    prunable = trainer.prunable(biases=asked.prune.biases, exclude=asked.prune.exclude)
    weights = trainer.initial(0)
    assert found.total_params == trainer.total_params()
    assert tuple(found.shapes) == prunable.names
    assert found.layers == prunable
    assert found.shapes == {name: tuple(weights[name].shape) for name in prunable.names}
    trainer.close()


def test_the_sizes_of_an_agent():
    found = survey(study(text=AGENTS))
    assert found.prunable == {"body.0.weight": 4 * 8, "head.weight": 8 * 2}
    assert found.layers.output == ("head.weight",)
    assert found.total_params == 4 * 8 + 8 + 8 * 2 + 2


def test_a_dueling_agent_has_two_output_layers():
    found = survey(study("trainer.dueling=true", "trainer.atoms=3", text=AGENTS))
    assert found.prunable == {
        "body.0.weight": 4 * 8, "value.weight": 8 * 3, "advantage.weight": 8 * 2 * 3,
    }  # fmt: skip
    assert found.layers.output == ("value.weight", "advantage.weight")


def test_agents_are_surveyed_without_the_engine_that_trains_them():
    games = AGENTS.replace("CartPole-v1, hidden: [8]", "MinAtar/Breakout-v1, model: minatar")
    code = (
        "import sys\n"
        "from raylottery.spec import parse_sweep\n"
        "from raylottery.driver.plan import inspect, make_plan\n"
        f"inspect(make_plan(parse_sweep({games!r}), None))\n"
        "print(*{'ray', 'torch'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["torch"]


# How deep it goes


@pytest.mark.parametrize(
    ("sets", "last", "round", "outcome"),
    [
        # 400 weights, halved: 200, 100, 50, 25, 13, 7, 3, 1
        (["prune.scope=global"], 8, 9, "none of the 1 weights"),
        (["prune.scope=erk"], 8, 9, "none of the 1 weights"),
        # 320 weights go down to 1, the 80 of the output by a fourth each, until 2 are left
        (["prune.scope=layerwise"], 12, 13, "none of the 3 weights"),
        (["prune.fraction=0.9"], 2, 3, "all of the 4 weights"),
    ],
)
def test_rounds_are_counted_to_the_last_that_can_be_pruned(sets, last, round, outcome):
    deepest = study(*sets, f"prune.rounds={last}")
    refuse_too_deep(deepest, survey(deepest))
    deeper = study(*sets, f"prune.rounds={last + 5}")
    with pytest.raises(UsageError, match=rf"prune\.rounds: round {round} would") as refused:
        refuse_too_deep(deeper, survey(deeper))
    assert f"would prune {outcome} that are left by then (of 400 prunable ones" in str(
        refused.value
    )
    assert f"Set prune.rounds to at most {last}, or take a larger network." in str(refused.value)


def test_a_rule_that_goes_by_masks_goes_as_deep_as_any():
    """In the last round it asks for masks that no round will have, and takes those it has."""
    deepest = study("stop={rule: mask-difference}", "prune.rounds=8")
    refuse_too_deep(deepest, survey(deepest))


@pytest.mark.parametrize(
    ("text", "only", "size", "last"),
    [
        # 80, 40, 20, 10, 5, 3, 1 and 320, 160, ..., 5, 3, 1; an agent's head has 16
        (SWEEP, "'2'", 80, 6),
        (SWEEP, "'0'", 320, 8),
        (AGENTS, "head", 16, 4),
    ],
)
def test_rounds_are_counted_by_what_alone_loses_weights(text, only, size, last):
    chosen = f"prune.only=[{only}]"
    deepest = study(chosen, f"prune.rounds={last}", text=text)
    refuse_too_deep(deepest, survey(deepest))
    deeper = study(chosen, f"prune.rounds={last + 1}", text=text)
    with pytest.raises(UsageError) as refused:
        refuse_too_deep(deeper, survey(deeper))
    assert str(refused.value).startswith(
        f"prune.rounds: round {last + 1} would prune none of the 1 weights that are left by then "
        f"(of {size} prunable ones"
    )


def test_what_stays_whole_is_prunable_all_the_same():
    assert survey(study("prune.only=['2']")) == survey(study())


def test_a_network_that_cannot_be_pruned_once_needs_another_fraction():
    with pytest.raises(UsageError, match=r"round 1 would prune none.*Set another prune\.fraction"):
        refuse_too_deep(study("prune.fraction=0.001"), survey(study()))


def test_what_is_allowed_at_the_door_is_never_refused_by_pruning():
    """The deepest rounds that are let in are drawn, by the very function that would refuse."""
    import torch

    from raylottery.pruning import Masks, prune

    for scope in ("global", "layerwise", "erk"):
        how = study(f"prune.scope={scope}", "prune.rounds=8")
        found = survey(how)
        refuse_too_deep(how, found)
        weights = {name: torch.randn(shape) for name, shape in found.shapes.items()}
        masks = Masks.dense(weights, found.layers.names)
        for index in range(1, 9):
            masks = prune(weights, masks, how.prune, found.layers, seed=index)


# At the door


def test_the_refusal_names_the_sweep_the_key_and_the_arm():
    with pytest.raises(UsageError) as refused:
        inspect(planned("prune.rounds=12", "axes.prune.scope=[layerwise, erk]"))
    assert str(refused.value) == (
        "door: prune.rounds: round 9 would prune none of the 1 weights that are left by then "
        "(of 400 prunable ones, at a fraction of 0.5 under scope erk). Set prune.rounds to at "
        "most 8, or take a larger network. (arm scope=erk)"
    )
    assert refused.value.exit_code == 2


def test_a_name_that_fits_nothing_of_an_arms_network_is_refused_with_the_arm():
    with pytest.raises(UsageError) as refused:
        inspect(planned("axes={prune.only: [['2'], ['4']]}"))
    assert str(refused.value).startswith("door: prune.only: '4' fits no ")
    assert str(refused.value).endswith(
        "parameter of the network. Valid: 0, 2, 0.weight, 2.weight. (arm only=4)"
    )


def test_an_environment_that_cannot_be_made_is_refused():
    with pytest.raises(UsageError, match=r"^agents: trainer\.env: ") as refused:
        inspect(planned("trainer.env=CartPol-v1", text=AGENTS))
    assert "CartPole-v1" in str(refused.value)


def test_each_network_is_looked_at_once(monkeypatch):
    looked = []

    def counting(study):
        looked.append(study)
        return survey(study)

    monkeypatch.setattr(surveys, "survey", counting)
    plan = planned("axes.prune.scope=[global, erk]", "axes.rewind.weights=[init, 1ep]")
    assert set(inspect(plan)) == {line.arm.id for line in plan.lineages}
    assert len(looked) == 1, "how it is pruned changes no network"


def test_arms_that_are_done_are_not_looked_at(monkeypatch):
    """A finished sweep answers at once, though its environment were gone."""
    from dataclasses import replace

    plan = planned("axes.trainer.model=[mlp-8, mlp-16]")
    first = plan.lineages[0].arm.id
    done = {r.key for line in plan.lineages if line.arm.id == first for r in line.rounds}
    assert list(inspect(replace(plan, done=frozenset(done)))) == [plan.lineages[1].arm.id]
    monkeypatch.setattr(surveys, "survey", None)
    assert inspect(replace(plan, done=frozenset(plan.rounds))) == {}


def test_a_guess_counts_each_network_by_itself():
    """A round is kept as float32 weights and a byte of mask; a trunk leaves snapshots too."""
    plan = planned("axes.trainer.model=[mlp-8, mlp-16]", "rewind.weights=1ep", "seeds=[0]")
    sizes = [40 * 8 + 8 + 80 + 10, 40 * 16 + 16 + 160 + 10]
    guessed = guess(plan, None, inspect(plan))
    assert guessed.megabytes * 1e6 == pytest.approx(sum(sizes) * (3 * 5 + 2 * 4))
    assert guessed.worker_seconds is None
