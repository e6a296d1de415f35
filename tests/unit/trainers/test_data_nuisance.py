"""Nuisance inputs of data sets: what is added, and that both engines train on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.spec import ClassifierTrainer
from raylottery.trainers.classifier import data, packed
from raylottery.trainers.classifier.compiled.examples import examples
from tests.unit.trainers.test_classifier_compiled import start, study, trainer_of


def spec(**extra: float) -> ClassifierTrainer:
    trainer = study(nuisance=extra).trainer
    assert isinstance(trainer, ClassifierTrainer)
    return trainer


def shown(split: str, **extra: float) -> torch.Tensor:
    return getattr(data.load(spec(**extra), "cpu"), split).x


@settings(deadline=None, max_examples=10)
@given(
    noise=st.integers(0, 4), duplicates=st.integers(0, 90), split=st.sampled_from(packed.SPLITS)
)
def test_own_inputs_stay_and_duplicates_are_theirs_to_the_bit(noise, duplicates, split):
    plain, wide = shown(split), shown(split, noise=noise, duplicates=duplicates)
    assert wide.dtype == plain.dtype
    assert wide.shape == (len(plain), 40 + noise + duplicates)
    assert torch.equal(wide[:, :40], plain)
    for place in range(duplicates):
        assert torch.equal(wide[:, 40 + noise + place], plain[:, place % 40])


def test_noise_belongs_to_the_data_set():
    """Not to a lineage or a run of the program: more of it leaves the first as they are."""
    few = shown("train", noise=2, scale=0.5)[:, 40:]
    data.on_device.cache_clear()
    many = shown("train", noise=5, scale=0.5)[:, 40:]
    assert torch.equal(few, many[:, :2])
    doubled = shown("train", noise=5, scale=1.0)[:, 40:]
    assert torch.equal(doubled, 2 * many)
    assert len(many.unique()) > 0.99 * many.numel()
    assert abs(many.mean()) < 4 * 0.5 / np.sqrt(many.numel())
    assert abs(many.std() / 0.5 - 1) < 0.02
    assert float(many.T.corrcoef().fill_diagonal_(0).abs().max()) < 0.1
    same = torch.isin(shown("valid", noise=5, scale=0.5)[:, 40:], many)
    assert float(same.float().mean()) < 0.001  # two floats may be equal by chance


def test_labels_and_what_is_on_disk_stay():
    plain, wide = data.load(spec(), "cpu"), data.load(spec(noise=3), "cpu")
    for split in packed.SPLITS:
        assert torch.equal(getattr(plain, split).y, getattr(wide, split).y)
    assert packed.place("mnist1d", spec(noise=3).packed_size) == packed.place(
        "mnist1d", spec().packed_size
    )


def test_compiled_code_is_shown_the_same_examples():
    trainer = spec(noise=3, duplicates=50)
    for split, part in examples(trainer).items():
        rows = part.x.reshape(-1, part.width)
        assert np.array_equal(rows[:, :93], getattr(data.load(trainer, "cpu"), split).x.numpy())
        assert not rows[:, 93:].any()


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_a_round_of_a_wider_network_is_the_same_again(engine):
    sweep = study(engine, nuisance={"noise": 8, "duplicates": 8})
    trainer = trainer_of(sweep)
    begun = start(trainer, 0.5)
    assert begun.ticket.weights["0.weight"].shape == (48, 56)
    one, again = (trainer.train(begun) for _ in range(2))
    assert one.scores == again.scores
    assert all(torch.equal(w, again.weights[name]) for name, w in one.weights.items())
    assert one.revived == 0
    assert one.scores.score > 0.3
