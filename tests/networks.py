"""Small networks that are made elsewhere, for tests: they are named as tests.networks:NAME."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normed(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A convolution and its batch norm, which keeps count of what it has seen."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def normed_for_evaluation(shape: tuple[int, ...], classes: int) -> nn.Module:
    return normed(shape, classes).eval()


def dropping(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network that draws at random while it trains."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, stride=8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, classes),
    )


class Single(nn.Linear):
    """A layer that takes single precision alone."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype != torch.float32:
            raise RuntimeError("expected float32")
        return super().forward(input)


def single(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Single(shape[0] * shape[1] * shape[2], classes))


def patched(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Patches of an image, each of which becomes numbers that a linear layer reads."""
    return nn.Sequential(
        nn.PixelUnshuffle(8),
        nn.Conv2d(64 * shape[0], 4, 1),
        nn.Flatten(),
        nn.Linear(4 * shape[1] * shape[2] // 64, classes),
    )
