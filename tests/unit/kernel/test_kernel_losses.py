"""The losses are torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from raylottery.kernel import losses
from tests.unit.kernel.samples import called


BATCH, LANES = 37, 48


@pytest.fixture
def outputs() -> np.ndarray:
    table = np.random.default_rng(0).normal(size=(5, LANES)) * 3
    return table.astype(np.float32)


def tensor(table: np.ndarray) -> Tensor:
    """(neurons, lanes) as (batch, neurons), in double precision."""
    return torch.from_numpy(table[:, :BATCH].T.copy()).double().requires_grad_()


def check(ours: float, deltas: np.ndarray, loss: Tensor, given: Tensor) -> None:
    loss.backward()
    assert given.grad is not None
    assert ours == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(deltas[:, :BATCH].T, given.grad.numpy(), rtol=1e-5, atol=1e-8)
    assert not deltas[:, BATCH:].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(outputs: np.ndarray, smoothing: float) -> None:
    labels = np.random.default_rng(1).integers(0, 5, BATCH)
    deltas = np.full_like(outputs, 9)
    ours = losses.cross_entropy(outputs, labels, smoothing, deltas)
    x = tensor(outputs)
    loss = functional.cross_entropy(x, torch.from_numpy(labels), label_smoothing=smoothing)
    check(ours, deltas, loss, x)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_cross_entropy_of_small_and_of_sure_outputs(scale: float) -> None:
    """Deltas are as exact where a class is all but certain: they tell by how little it is not."""
    rng = np.random.default_rng(4)
    table = (rng.normal(size=(10, LANES)) * scale).astype(np.float32)
    labels = table[:, :BATCH].argmax(axis=0)
    labels[::3] = rng.integers(0, 10, len(labels[::3]))
    deltas = np.full_like(table, 9)
    x = tensor(table)
    loss = functional.cross_entropy(x, torch.from_numpy(labels))
    check(losses.cross_entropy(table, labels, 0.0, deltas), deltas, loss, x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_cross_entropy_of_what_is_no_number_is_none(outputs, value: float, place: int) -> None:
    outputs[place, BATCH // 2] = value
    labels = np.full(BATCH, 1)
    assert np.isnan(losses.cross_entropy(outputs, labels, 0.0, np.zeros_like(outputs)))


@pytest.mark.parametrize("squared", [True, False])
def test_chosen_values(outputs: np.ndarray, squared: bool) -> None:
    rng = np.random.default_rng(2)
    actions = rng.integers(0, 5, BATCH)
    wanted = rng.normal(size=BATCH).astype(np.float32)
    weights = rng.random(BATCH).astype(np.float32)
    deltas, errors = np.full_like(outputs, 9), np.zeros(BATCH, np.float32)
    ours = called(losses.chosen_values)(outputs, actions, wanted, weights, squared, deltas, errors)
    x = tensor(outputs)
    chosen = x[torch.arange(BATCH), torch.from_numpy(actions)]
    kind = functional.mse_loss if squared else functional.huber_loss
    each = kind(chosen, torch.from_numpy(wanted).double(), reduction="none")
    check(ours, deltas, (each * torch.from_numpy(weights)).mean(), x)
    np.testing.assert_allclose(errors, chosen.detach().numpy() - wanted, rtol=1e-5, atol=1e-6)


def test_one_network_chooses_the_action_that_another_rates() -> None:
    choosing = np.array([[1, 0, 5], [2, 0, -1]], np.float32)
    rating = np.array([[10, 20, 30], [40, 50, 60]], np.float32)
    wanted = np.zeros(3, np.float32)
    rewards = np.array([1, 2, 3], np.float32)
    called(losses.bootstrapped)(
        choosing, rating, rewards, np.array([0.5, 1, 0], np.float32), wanted
    )
    assert wanted.tolist() == [21, 22, 3]


def test_dueling_streams(outputs: np.ndarray) -> None:
    q = np.zeros((4, LANES), np.float32)
    losses.dueling_values(outputs, q)
    x = tensor(outputs)
    theirs = x[:, :1] + x[:, 1:] - x[:, 1:].mean(dim=1, keepdim=True)
    np.testing.assert_allclose(q[:, :BATCH].T, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)
    dq = np.random.default_rng(3).normal(size=q.shape).astype(np.float32)
    dq[:, BATCH:] = 0
    streams = np.zeros_like(outputs)
    called(losses.dueling_deltas)(dq, streams)
    theirs.backward(torch.from_numpy(dq[:, :BATCH].T.copy()).double())
    assert x.grad is not None
    np.testing.assert_allclose(streams[:, :BATCH].T, x.grad, rtol=1e-5, atol=1e-6)
    assert not streams[:, BATCH:].any()
