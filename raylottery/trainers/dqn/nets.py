"""The networks a DQN sweep can name. Parameter names never change, pruned or not.

A network is a body that turns an observation into features, and a head that turns features into
the value of each action. Only the body differs between models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from raylottery.errors import UsageError
from raylottery.pruning.prunable import prunable
from raylottery.sizes.prunable import Prunable
from raylottery.spec.dqn import DQNTrainer
from raylottery.trainers.dqn.envs import EnvSpaces


SMALLEST = {"minatar": 3, "nature": 36, "yu2020": 8}
"""Height and width of the smallest frame that leaves a convolutional model one pixel."""

OBS_CLIP = 10.0
"""Normalised observations are held within this, as one outlier would drown all else."""


def build(spec: DQNTrainer, space: EnvSpaces) -> QNet:
    """The network of a specification, freshly initialised by torch's own rules."""
    return QNet(spec, space)


def layers(net: QNet, *, biases: bool, exclude: Sequence[str]) -> Prunable:
    """What may be pruned; the two streams of a dueling network are both its output."""
    return prunable(net, biases=biases, exclude=exclude, outputs=2 if net.dueling else 1)


def positions(net: QNet, space: EnvSpaces) -> Mapping[str, int]:
    """How often each parameter is used for one input: once, or at each pixel of its output."""
    used = {name: 1 for name, _ in net.named_parameters()}
    if net.flattens:
        return used
    x = torch.zeros((1, *space.shape), device=next(net.parameters()).device)
    for place, layer in enumerate(net.body):
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            for name, _ in layer.named_parameters():
                used[f"body.{place}.{name}"] = x.shape[-2] * x.shape[-1]
    return used


class QNet(nn.Module):
    """Observations in, the value of each action out."""

    obs_mean: Tensor
    obs_var: Tensor
    obs_count: Tensor
    support: Tensor

    def __init__(self, spec: DQNTrainer, space: EnvSpaces):
        super().__init__()
        self.actions = space.actions
        self.atoms = spec.atoms
        self.normalises = spec.normalise
        self.flattens = spec.model == "mlp"
        if spec.normalise:
            # In double precision, as a batch late in a training moves them by very little.
            self.register_buffer("obs_mean", torch.zeros(space.shape, dtype=torch.float64))
            self.register_buffer("obs_var", torch.ones(space.shape, dtype=torch.float64))
            self.register_buffer("obs_count", torch.zeros((), dtype=torch.int64))
        self.obs_scale = 1 / 255 if space.dtype == "uint8" else 1.0

        convolutions = frames(spec, space)
        inputs = sized(convolutions, space) if convolutions else math.prod(space.shape)
        widths = (inputs, *spec.widths)
        self.body = nn.Sequential(*convolutions, *dense(widths))
        if spec.dueling:
            self.value = nn.Linear(widths[-1], self.atoms)
            self.advantage = nn.Linear(widths[-1], self.actions * self.atoms)
        else:
            self.head = nn.Linear(widths[-1], self.actions * self.atoms)
        self.dueling = spec.dueling
        if self.atoms > 1:
            support = torch.linspace(-spec.value_range, spec.value_range, self.atoms)
            self.register_buffer("support", support, persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """The value of each action: (batch, actions)."""
        logits = self.distribution(obs)
        return logits.squeeze(-1) if self.atoms == 1 else self.expectation(logits)

    def distribution(self, obs: Tensor) -> Tensor:
        """Logits of the returns each action may lead to: (batch, actions, atoms)."""
        x = self.prepared(obs)
        features = self.body(x.flatten(1) if self.flattens else x)
        if not self.dueling:
            return self.head(features).view(-1, self.actions, self.atoms)
        advantage = self.advantage(features).view(-1, self.actions, self.atoms)
        # Only their sum is ever learnt: without its mean, an advantage cannot pose as value.
        advantage = advantage - advantage.mean(dim=1, keepdim=True)
        return self.value(features).view(-1, 1, self.atoms) + advantage

    def expectation(self, logits: Tensor) -> Tensor:
        """The mean return of a distribution over the support."""
        return logits.softmax(dim=-1) @ self.support

    def prepared(self, obs: Tensor) -> Tensor:
        """Observations as the first layer is given them."""
        if obs.dtype == torch.uint8:
            obs = obs.float() * (1 / 255)
        if not self.normalises:
            return obs
        mean, spread = self.obs_mean.float(), (self.obs_var + 1e-8).sqrt().float()
        normalised = ((obs - mean) / spread).clamp(-OBS_CLIP, OBS_CLIP)
        return torch.where(self.obs_count > 0, normalised, obs)

    @torch.no_grad()
    def observe(self, mean: Tensor | np.ndarray, var: Tensor | np.ndarray, count: int) -> None:
        """Merge the moments of `count` more observations, as the environment delivers them.

        The sums of squares of two sets add up, once the distance of their means is counted in.
        """
        mean = torch.as_tensor(mean).to(self.obs_mean) * self.obs_scale
        var = torch.as_tensor(var).to(self.obs_var) * self.obs_scale**2
        before, total = self.obs_count, (self.obs_count + count).double()
        apart = mean - self.obs_mean
        squares = self.obs_var * before + var * count + apart**2 * (before * count / total)
        self.obs_mean += apart * (count / total)
        self.obs_var.copy_(squares / total)
        self.obs_count += count


def dense(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers, each with a rectifier behind it."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return layers


def frames(spec: DQNTrainer, space: EnvSpaces) -> list[nn.Module]:
    """The convolutions of a model, down to flat features; none for an mlp."""
    if spec.model == "mlp":
        return []
    channels, height, width = space.shape
    if min(height, width) < SMALLEST[spec.model]:
        fitting = [model for model, side in SMALLEST.items() if min(height, width) >= side]
        raise UsageError(
            f"trainer.model: {spec.model} needs frames of at least {SMALLEST[spec.model]} by "
            f"{SMALLEST[spec.model]} pixels, and {spec.env} shows {height} by {width}. "
            f"Say model: {' or '.join(['mlp', *fitting])}."
        )
    return {"minatar": _minatar, "nature": _nature, "yu2020": _yu2020}[spec.model](channels)


def sized(convolutions: list[nn.Module], space: EnvSpaces) -> int:
    """How many features convolutions make of one observation."""
    with torch.no_grad():
        return nn.Sequential(*convolutions)(torch.zeros(1, *space.shape)).numel()


def _minatar(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten()]


def _nature(channels: int) -> list[nn.Module]:
    return [
        *(nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU()),
        *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.ReLU()),
        nn.Flatten(),
    ]


def _yu2020(channels: int) -> list[nn.Module]:
    """Four convolutions that keep the size, and three poolings that halve it."""
    return [
        *(nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        nn.Flatten(),
    ]
