"""What every trainer promises a lineage. A new trainer joins by adding a case to `STUDIES`."""

from __future__ import annotations

import pytest
import torch

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket


STUDIES = {
    f"classifier-{optimizer}-{model}": f"""
name: contract
trainer: {{kind: classifier, dataset: mnist1d, model: {model}, length: 2ep, batch_size: 100,
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


@pytest.fixture(params=list(STUDIES.values()), ids=list(STUDIES), scope="module")
def study(request):
    return parse_sweep(request.param)


@pytest.fixture(scope="module")
def trainer(study):
    return make_trainer(study, gpu=False)


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
    return Ticket(weights=apply_mask(weights, masks), masks=masks)


def start(ticket, *, data_seed=7, clock=0, end=50, keep=()) -> Start:
    return Start(ticket=ticket, data_seed=data_seed, clock=clock, end=end, keep=keep)


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_equal_starts_give_equal_outcomes_to_the_bit(trainer, ticket):
    [first] = trainer.train([start(ticket)])
    [second] = trainer.train([start(ticket)])
    assert equal(first.weights, second.weights)
    assert first.scores == second.scores
    assert first.curve == second.curve


def test_another_data_seed_gives_another_outcome(trainer, ticket):
    [first] = trainer.train([start(ticket)])
    [second] = trainer.train([start(ticket, data_seed=8)])
    assert not equal(first.weights, second.weights)


def test_training_does_not_depend_on_the_global_random_state(trainer, ticket):
    [first] = trainer.train([start(ticket)])
    torch.manual_seed(99)
    [second] = trainer.train([start(ticket)])
    assert equal(first.weights, second.weights)


def test_pruned_weights_end_at_zero_and_kept_ones_move(trainer, ticket):
    [outcome] = trainer.train([start(ticket)])
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
    trainer.train([start(ticket)])
    assert equal(before, ticket.weights)


def test_a_seed_fixes_the_initial_weights(trainer):
    assert equal(trainer.initial(3), trainer.initial(3))
    assert not equal(trainer.initial(3), trainer.initial(4))


def test_snapshots_are_the_weights_of_a_training_that_stopped_there(trainer, ticket):
    [whole] = trainer.train([start(ticket, keep=(0, 20))])
    [short] = trainer.train([start(ticket, end=20)])
    assert equal(whole.snapshots[0], ticket.weights)
    assert equal(whole.snapshots[20], short.weights)


def test_digests_prove_that_a_shorter_training_repeats_a_longer_one(trainer, ticket):
    [whole] = trainer.train([start(ticket, keep=(0,))])
    [again] = trainer.train([start(ticket, end=20, keep=(5,))])
    [other] = trainer.train([start(ticket, end=20, keep=(5,), data_seed=8)])
    assert again.digests[20] == whole.digests[20]
    assert other.digests[20] != whole.digests[20]


def test_a_clock_in_the_middle_trains_the_rest_of_the_schedule(trainer, ticket):
    [outcome] = trainer.train([start(ticket, clock=30)])
    assert outcome.scores.steps == 20
    assert {point.step for point in outcome.curve} == {40, 50}


def test_a_trainer_takes_at_most_its_capacity_and_keeps_the_order(trainer, ticket):
    starts = [start(ticket, data_seed=seed) for seed in range(trainer.capacity)]
    outcomes = trainer.train(starts)
    assert len(outcomes) == len(starts)


def test_parameter_names_are_those_of_the_initial_weights(trainer, ticket):
    [outcome] = trainer.train([start(ticket)])
    assert list(outcome.weights) == list(trainer.initial(0))
    assert set(trainer.prunable(biases=False).names) <= set(outcome.weights)
    assert set(trainer.positions()) >= set(trainer.prunable(biases=True).names)
