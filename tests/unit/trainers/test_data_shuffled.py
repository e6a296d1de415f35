"""Shuffled data: what of them stays to the bit, and that both engines see the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.pruning import Masks
from raylottery.spec import ClassifierTrainer
from raylottery.trainers.base import Start, Ticket
from raylottery.trainers.classifier import data, packed
from raylottery.trainers.classifier.compiled.examples import examples
from tests.unit.trainers.test_classifier_compiled import images, start, study, trainer_of


MAKERS = {"numbers": study, "images": images}


def spec(kind: str, **changes) -> ClassifierTrainer:
    trainer = MAKERS[kind](**changes).trainer
    assert isinstance(trainer, ClassifierTrainer)
    return trainer


def shown(trainer: ClassifierTrainer, split: str) -> torch.Tensor:
    dataset = data.load(trainer, "cpu")
    return data.prepared(getattr(dataset, split).x, trainer, dataset)


SEEDS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize("kind", MAKERS)
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_shuffled_pixels_are_the_same_ones_in_one_order_for_all_examples(kind, seed):
    plain, changed = spec(kind), spec(kind, shuffle="pixels", shuffle_seed=seed)
    order = data.load(changed, "cpu").order
    assert order is not None
    assert sorted(order.tolist()) == list(range(40 if kind == "numbers" else 1024))
    for split in packed.SPLITS:
        before, after = shown(plain, split), shown(changed, split)
        assert after.shape == before.shape
        pixels, others = (x.flatten(max(1, x.ndim - 2)) for x in (after, before))
        assert torch.equal(pixels, others[..., order])
        assert not torch.equal(pixels, others)
        labels = [getattr(data.load(trainer, "cpu"), split).y for trainer in (plain, changed)]
        assert torch.equal(*labels)


@pytest.mark.parametrize("kind", MAKERS)
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_shuffled_labels_are_the_same_ones_and_nothing_else_changes(kind, seed):
    changed = spec(kind, shuffle="labels", shuffle_seed=seed)
    plain, other = (data.load(trainer, "cpu") for trainer in (spec(kind), changed))
    assert torch.equal(plain.train.y.bincount(), other.train.y.bincount())
    share = float((plain.train.y == other.train.y).float().mean())
    assert share < 0.25  # a tenth by chance
    for split in packed.SPLITS:
        assert torch.equal(shown(spec(kind), split), shown(changed, split))
        if split != "train":
            assert torch.equal(getattr(plain, split).y, getattr(other, split).y)


@pytest.mark.parametrize("what", ["pixels", "labels"])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**63 - 2))
def test_the_seed_alone_says_how(what, seed):
    one, again, other = (
        data.load(spec("numbers", shuffle=what, shuffle_seed=s), "cpu")
        for s in (seed, seed, seed + 1)
    )

    def told(dataset: data.Dataset) -> torch.Tensor:
        return dataset.train.y if dataset.order is None else dataset.order

    assert torch.equal(told(one), told(again))
    assert not torch.equal(told(one), told(other))


@pytest.mark.parametrize("what", ["pixels", "labels"])
@pytest.mark.parametrize("kind", MAKERS)
def test_compiled_code_is_shown_the_same_examples(kind, what):
    trainer = spec(kind, shuffle=what, shuffle_seed=5)
    for split, part in examples(trainer).items():
        expected = shown(trainer, split).flatten(1)
        inputs = expected.shape[1]
        assert np.array_equal(part.x.reshape(-1, part.width)[:, :inputs], expected.numpy())
        assert np.array_equal(part.y, getattr(data.load(trainer, "cpu"), split).y.numpy())


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_pixels_whose_order_the_first_layer_knows_are_learnt_as_they_are(engine):
    """So a ticket on shuffled pixels loses what its mask knows of their places, and no more."""
    plain = trainer_of(study(engine))
    shuffled = trainer_of(study(engine, shuffle="pixels", shuffle_seed=5))
    begun = start(plain, 0.3, end=60)
    order = data.load(shuffled.spec, "cpu").order
    one = plain.train(begun)
    other = shuffled.train(moved(begun, order))
    assert one.scores.score == pytest.approx(other.scores.score, abs=0.01)
    torch.testing.assert_close(
        one.weights["0.weight"][:, order], other.weights["0.weight"], atol=1e-3, rtol=1e-3
    )


def moved(begun: Start, order: torch.Tensor | None) -> Start:
    """A start whose first layer has its inputs in another order."""
    assert order is not None

    def arranged(tensors):
        return {n: t[:, order] if n == "0.weight" else t for n, t in tensors.items()}

    ticket = begun.ticket
    weights, masks = arranged(ticket.weights), Masks(arranged(ticket.masks))
    return replace(begun, ticket=Ticket(weights=weights, masks=masks, unmasked=weights))


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_shuffled_labels_can_only_be_learnt_by_heart(engine):
    trainer = trainer_of(study(engine, shuffle="labels", shuffle_seed=1, model="mlp-200",
                               length="600it", lr=0.01))  # fmt: skip
    outcome = trainer.train(start(trainer, end=600, length=600))
    assert outcome.scores.train_score > 0.3
    assert outcome.scores.score < 0.2
