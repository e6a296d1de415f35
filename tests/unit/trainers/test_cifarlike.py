"""cifar-like: the same images everywhere, in which no pixel tells a class and a texture does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raylottery.spec import DATASETS
from raylottery.trainers.classifier import cifarlike
from raylottery.trainers.classifier.cifarlike import generate
from raylottery.trainers.classifier.data import cifar_like


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    return generate(4500, seed=0)


def test_the_images_are_those_of_version_1():
    """Other values are another data set: raise VERSION and the classifier's PROTOCOL with them."""
    x, _ = generate(1000, seed=1)
    assert cifarlike.VERSION == 1
    assert hashlib.sha256(x.tobytes()).hexdigest() == GOLDEN


GOLDEN = "829df3256a2721bc02670584e2d3a3b990120d4c896264c12ff3c709c9904343"


def test_images_have_the_shape_of_cifars_and_every_class_as_often(images):
    x, y = images
    size = DATASETS["cifar-like"]
    assert x.shape[1:] == size.shape
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)
    assert np.bincount(y).tolist() == [450] * size.classes


def test_a_larger_set_begins_as_a_smaller_one(images):
    """And the test set is the same in every size."""
    for count in (7, 500, 777):
        assert np.array_equal(generate(count, seed=0)[0], images[0][:count])
    size = DATASETS["cifar-like"]
    test = cifar_like(size).x_test
    assert np.array_equal(test, generate(size.test, seed=1)[0])
    assert not (test[:500] == images[0][:500]).all(axis=(1, 2, 3)).any()


def test_no_pixel_has_a_mean_that_tells_the_class(images):
    """Class means lie as far apart as chance has them: as those of shuffled labels."""
    x, y = images
    flat = x.reshape(len(x), -1).astype(np.float64)

    def apart(labels: np.ndarray) -> float:
        means = np.stack([flat[labels == label].mean(axis=0) for label in range(10)])
        return float(means.var(axis=0).mean())

    shuffled = [apart(np.random.default_rng(seed).permutation(y)) for seed in range(5)]
    assert apart(y) < 1.1 * np.mean(shuffled)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small products are not worth the waiting of one thread for another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def floats(x: np.ndarray) -> torch.Tensor:
    scaled = torch.from_numpy(x).float().sub_(127).div_(64)
    return scaled.contiguous(memory_format=torch.channels_last)


def learnt(net: nn.Sequential, x: np.ndarray, y: np.ndarray, *, lr: float, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    inputs, labels = floats(x), torch.from_numpy(y)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    return (net(floats(x)).argmax(dim=1) == torch.from_numpy(y)).double().mean().item()


def test_a_small_conv_net_learns_what_a_linear_model_cannot(images, one_thread):
    """Chance is 0.1. The linear model knows its training images by heart; that is all it knows."""
    torch.manual_seed(0)
    test = generate(1000, seed=1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    learnt(linear, *images, lr=0.001, epochs=4)
    assert accuracy(linear, *images) > 0.6
    assert accuracy(linear, *test) < 0.2

    conv = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    learnt(conv, *images, lr=0.003, epochs=4)
    assert accuracy(conv, *test) > 0.5
    mirrored = test[0][..., ::-1].copy()
    assert accuracy(conv, mirrored, test[1]) > 0.5, "so mirrors are no other class"
