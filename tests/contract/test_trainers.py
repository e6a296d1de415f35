"""What every trainer promises a lineage. A new trainer joins by adding a case to `STUDIES`.

One that needs Ray has its cases in `tests/ray`, where these tests are run again.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace

import pytest
import torch

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import Stop, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket


STUDIES = (
    {
        f"classifier-{optimizer}-{model}": f"""
name: contract
trainer: {{kind: classifier, dataset: mnist1d, model: {model}, length: 10ep, batch_size: 500,
           optimizer: {optimizer}, lr: 0.01{extra}}}
prune: {{fraction: 0.5, rounds: 1}}
eval: {{every: 10it}}
seeds: [0]
"""
        for optimizer, extra in {
            "adam": "",
            "adamw": ", weight_decay: 0.1",
            "sgd": ", momentum: 0.9, weight_decay: 0.001",
        }.items()
        for model in ("mlp-16", "residual-mlp-16-16")
    }
    | {
        f"classifier-images-{net}": f"""
name: contract
trainer: {{kind: classifier, dataset: cifar-like, examples: 300, model: 'tests.networks:{net}',
           length: 14ep, batch_size: 50, optimizer: sgd, momentum: 0.9, nesterov: true,
           weight_decay: 0.001, lr: 0.01, schedule: cosine, warmup: 1ep, augment: flip-crop}}
prune: {{fraction: 0.5, rounds: 1}}
eval: {{every: 10it}}
seeds: [0]
"""
        for net in ("normed", "dropping")
    }
    | {
        f"dqn-compiled-{name}": f"""
name: contract
trainer: {{kind: dqn, engine: compiled, env: {env}, hidden: [64], length: 70it,
           learning_starts: 64, envs: 4, rollout: 16, updates: 4, batch_size: 16, buffer: 500,
           lr: 0.01, target_every: 5it, {extra}}}
prune: {{fraction: 0.5, rounds: 1}}
eval: {{every: 10it, episodes: 2, final: 3}}
seeds: [0]
"""
        for name, env, extra in (
            ("plain", "CartPole-v1", "n_step: 1"),
            ("dueling", "CartPole-v1", "n_step: 3, dueling: true, weight_decay: 0.01"),
            ("hard-target", "Acrobot-v1", "n_step: 1, double: false, loss: squared, tau: 1.0"),
            ("gymnasium", "tests.games:ladder", "clip: 0.1"),
        )
    }
)


@pytest.fixture(params=list(STUDIES.values()), ids=list(STUDIES), scope="module")
def study(request):
    return parse_sweep(request.param)


@pytest.fixture(scope="module")
def trainer(study):
    with closing(make_trainer(study, gpu=False)) as trainer:
        yield trainer


@pytest.fixture(scope="module")
def ticket(trainer):
    """Half of every prunable tensor, at random."""
    weights = trainer.initial(0)
    generator = torch.Generator().manual_seed(1)
    masks = Masks(
        {
            name: torch.rand(weights[name].shape, generator=generator) < 0.5
            for name in trainer.prunable(biases=False).names
        }
    )
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


def start(
    ticket, *, data_seed=7, clock=0, end=50, searching=True, next_masks=None, keep=()
) -> Start:
    return Start(
        ticket=ticket,
        data_seed=data_seed,
        trunk_seed=7,
        clock=clock,
        end=end,
        length=70,
        previous=None,
        searching=searching,
        next_masks=next_masks,
        keep=keep,
    )


@pytest.fixture(scope="module")
def stopping(study):
    """Makes a trainer of the same study under a stop rule."""
    with ExitStack() as made:

        def make(rule, **fields):
            stop = Stop.model_validate({"rule": rule, **fields})
            trainer = make_trainer(study.model_copy(update={"stop": stop}), gpu=False)
            return made.enter_context(closing(trainer))

        yield make


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_equal_starts_give_equal_outcomes_to_the_bit(trainer, ticket):
    first = trainer.train(start(ticket))
    second = trainer.train(start(ticket))
    assert equal(first.weights, second.weights)
    assert first.scores == second.scores
    assert first.curve == second.curve


def test_the_lowest_validation_loss_lies_where_the_curve_has_it(trainer, ticket):
    """The first of equals; a trainer that measures none has no such step."""
    outcome = trainer.train(start(ticket))
    losses = {p.step: p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "loss")}
    lowest = min(losses, key=lambda step: losses[step]) if losses else None
    assert outcome.scores.min_loss_step == lowest


def test_another_data_seed_gives_another_outcome(trainer, ticket):
    first = trainer.train(start(ticket))
    second = trainer.train(start(ticket, data_seed=8))
    assert not equal(first.weights, second.weights)


def test_training_does_not_depend_on_the_global_random_state(trainer, ticket):
    first = trainer.train(start(ticket))
    torch.manual_seed(99)
    second = trainer.train(start(ticket))
    assert equal(first.weights, second.weights)


def test_pruned_weights_end_at_zero_and_kept_ones_move(trainer, ticket):
    outcome = trainer.train(start(ticket))
    assert outcome.revived == 0
    for name, mask in ticket.masks.items():
        trained, begun = outcome.weights[name], ticket.weights[name]
        assert torch.count_nonzero(trained[~mask]) == 0
        moved = (trained != begun)[mask]
        assert moved.float().mean() > 0.5, name
        negative = mask & (begun < 0)
        assert (trained != begun)[negative].any(), "kept negative weights train too"


def test_a_ticket_is_left_as_it_was(trainer, ticket):
    before = {name: tensor.clone() for name, tensor in ticket.weights.items()}
    trainer.train(start(ticket))
    assert equal(before, ticket.weights)


def test_a_seed_fixes_the_initial_weights(trainer):
    assert equal(trainer.initial(3), trainer.initial(3))
    assert not equal(trainer.initial(3), trainer.initial(4))


def test_snapshots_are_the_weights_of_a_training_that_stopped_there(trainer, ticket):
    whole = trainer.train(start(ticket, keep=(0, 20)))
    short = trainer.train(start(ticket, end=20))
    assert equal(whole.snapshots[0], ticket.weights)
    assert equal(whole.snapshots[20], short.weights)


def test_digests_prove_that_a_shorter_training_repeats_a_longer_one(trainer, ticket):
    whole = trainer.train(start(ticket, keep=(0,)))
    again = trainer.train(start(ticket, end=20, keep=(5,)))
    other = trainer.train(start(ticket, end=20, keep=(5,), data_seed=8))
    assert again.digests[20] == whole.digests[20]
    assert other.digests[20] != whole.digests[20]


def test_a_clock_in_the_middle_trains_the_rest_of_the_schedule(trainer, ticket):
    outcome = trainer.train(start(ticket, clock=30))
    assert outcome.scores.steps == 20
    assert {point.step for point in outcome.curve} == {40, 50}


def test_parameter_names_are_those_of_the_initial_weights(trainer, ticket):
    outcome = trainer.train(start(ticket))
    assert list(outcome.weights) == list(trainer.initial(0))
    assert set(trainer.prunable(biases=False).names) <= set(outcome.weights)
    assert set(trainer.positions()) >= set(trainer.prunable(biases=True).names)


ANY = -1e9
"""Reached by every measurement."""


def test_a_rule_changes_nothing_in_a_training_that_goes_on_to_its_full_length(
    trainer, stopping, ticket
):
    plain = trainer.train(start(ticket, keep=(0, 20)))
    outcome = stopping("target", threshold=ANY).train(start(ticket, keep=(0, 20)))
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("target", 10)
    assert equal(outcome.weights, plain.weights)
    assert all(equal(outcome.snapshots[step], plain.snapshots[step]) for step in (0, 20))
    assert outcome.digests == plain.digests
    assert outcome.curve == plain.curve
    assert outcome.scores == replace(
        plain.scores,
        score_at_stop=outcome.scores.score_at_stop,
        stopped_by="target",
        stop_step=10,
    )


def test_the_stopped_weights_are_those_of_a_training_that_ended_there(trainer, stopping, ticket):
    outcome = stopping("solved", threshold=ANY, hold=2).train(start(ticket))
    short = trainer.train(start(ticket, end=20))
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("solved", 20)
    assert equal(outcome.stopped, short.weights)
    assert not equal(outcome.stopped, outcome.weights)
    assert outcome.scores.score_at_stop == short.scores.score


def test_evaluated_at_the_stop_a_training_ends_there(trainer, stopping, ticket):
    rule = {"threshold": ANY, "hold": 2, "evaluate": "at-stop"}
    outcome = stopping("solved", **rule).train(start(ticket, clock=10))
    short = trainer.train(start(ticket, clock=10, end=30))
    assert outcome.scores.steps == short.scores.steps == 20
    assert equal(outcome.weights, short.weights)
    assert equal(outcome.stopped, short.weights)
    assert outcome.curve == short.curve
    assert outcome.scores.score_at_stop == outcome.scores.score == short.scores.score
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("solved", 30)


def test_a_rule_that_is_never_met_stops_nothing(trainer, stopping, ticket):
    plain = trainer.train(start(ticket))
    trainer = stopping("target", threshold=1e9, evaluate="at-stop")
    outcome = trainer.train(start(ticket))
    assert outcome.stopped is None
    assert outcome.scores == plain.scores
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("length", None)
    assert equal(outcome.weights, plain.weights)


def test_where_no_ticket_is_searched_for_no_rule_stops_anything(trainer, stopping, ticket):
    plain = trainer.train(start(ticket))
    trainer = stopping("target", threshold=ANY, evaluate="at-stop")
    outcome = trainer.train(start(ticket, searching=False))
    assert outcome.stopped is None
    assert outcome.scores == plain.scores
    assert equal(outcome.weights, plain.weights)


@pytest.mark.parametrize("evaluate", ["full", "at-stop"])
def test_masks_are_drawn_from_the_weights_of_the_moment_until_they_settle(
    trainer, stopping, ticket, evaluate
):
    looked_at = []

    def next_masks(weights):
        looked_at.append({name: tensor.clone() for name, tensor in weights.items()})
        return ticket.masks

    outcome = stopping("mask-distance", window=3, evaluate=evaluate).train(
        start(ticket, next_masks=next_masks)
    )
    assert len(looked_at) == 3, "equal masks settle as soon as the window is full"
    stop_step = outcome.scores.stop_step
    assert outcome.scores.stopped_by == "mask-distance"
    assert 0 < stop_step < 50
    short = trainer.train(start(ticket, end=stop_step))
    assert equal(outcome.stopped, short.weights)
    assert equal(outcome.stopped, looked_at[-1])
    whole = trainer.train(start(ticket)) if evaluate == "full" else short
    assert equal(outcome.weights, whole.weights)
    assert outcome.curve == whole.curve
    assert outcome.scores.score == whole.scores.score
    assert outcome.scores.steps == whole.scores.steps
