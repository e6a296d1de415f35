"""Networks to train, and the same in torch in double precision, where nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from raylottery.kernel import Layer, Network, Room, Rule
from raylottery.kernel.plan import DENSE, SPARSE


PATHS = {"dense": DENSE, "sparse": SPARSE}


def called(function: Any) -> Callable[..., Any]:
    """What compiled code alone calls, for Python."""
    dispatcher = getattr(function, "dispatcher", function)
    return njit(error_model="numpy")(dispatcher.py_func)


def layers(
    sizes: Sequence[int],
    density: float,
    seed: int,
    *,
    bias_density: float = 1.0,
    residual: bool = False,
) -> list[Layer]:
    """A network with random masks; a residual one adds wherever two hidden widths are equal."""
    rng = np.random.default_rng(seed)
    found = []
    for at, (inputs, neurons) in enumerate(pairwise(sizes)):
        weight = rng.normal(size=(neurons, inputs)) / np.sqrt(inputs * max(density, 0.05))
        found.append(
            Layer(
                weight.astype(np.float32),
                rng.normal(size=neurons).astype(np.float32) / 4,
                rng.random((neurons, inputs)) < density,
                rng.random(neurons) < bias_density,
                residual and inputs == neurons and 0 < at < len(sizes) - 2,
            )
        )
    return found


def network(whole: Sequence[Layer], path: str) -> Network:
    return Network.of(whole, paths=[PATHS[path]] * len(whole))


def gradients(net: Network, room: Room, x: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Forward and backward over one batch, (batch, inputs) and (batch, outputs); the outputs."""
    room.inputs[:, : len(x)] = x.T
    room.deltas[:, : len(x)] = deltas.T
    outputs = net.forward(room)[:, : len(x)].T.copy()
    net.backward(room)
    return outputs


class Reference:
    """The masked network in torch, in double precision."""

    def __init__(self, whole: Sequence[Layer], rule: Rule, lr: float):
        self.residual = [layer.residual for layer in whole]
        masks = [mask for layer in whole for mask in (layer.kept(), layer.kept_biases())]
        arrays = [array for layer in whole for array in (layer.weight, layer.bias)]
        self.masks = [torch.from_numpy(mask) for mask in masks]
        self.parameters = [
            (torch.from_numpy(array).double() * mask).requires_grad_()
            for array, mask in zip(arrays, self.masks, strict=True)
        ]
        self.rule = rule
        groups = [
            {"params": self.parameters[::2], "weight_decay": rule.decay},
            {"params": self.parameters[1::2], "weight_decay": rule.bias_decay},
        ]
        if rule.beta2:
            kind = torch.optim.AdamW if rule.decoupled else torch.optim.Adam
            betas = (rule.beta1, rule.beta2)
            self.optimizer = kind(groups, lr=lr, betas=betas, eps=rule.epsilon)
        else:
            momentum, nesterov = rule.beta1, rule.nesterov
            self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)

    def forward(self, x: np.ndarray) -> Tensor:
        """The outputs; `margin` is how near any neuron came to being switched."""
        now = torch.from_numpy(x).double()
        self.margin = np.inf
        for at, weight in enumerate(self.parameters[::2]):
            given, now = now, functional.linear(now, weight, self.parameters[2 * at + 1])
            if 2 * at + 2 < len(self.parameters):
                apart = now.detach().abs()
                apart = apart[apart > 0]  # at zero itself both are exact
                self.margin = min([self.margin, *apart.flatten().tolist()])
                now = now.relu()
            if self.residual[at]:
                now = given + now
        return now

    def backward(self, x: np.ndarray, deltas: np.ndarray) -> Tensor:
        """Leaves the gradients of survivors; the outputs."""
        self.optimizer.zero_grad()
        outputs = self.forward(x)
        outputs.backward(torch.from_numpy(deltas).double())
        self.mask_gradients()
        return outputs.detach()

    def mask_gradients(self) -> None:
        for parameter, mask in zip(self.parameters, self.masks, strict=True):
            parameter.grad = parameter.grad * mask if parameter.grad is not None else mask * 0.0

    def remember(self, moments: Sequence[Sequence[tuple[np.ndarray, ...]]], updates: int) -> None:
        """Go on from an optimizer's moments after some updates."""
        flat = [[array for pair in moment for array in pair] for moment in moments]
        for parameter, first, second in zip(self.parameters, *flat, strict=True):
            mean, square = (torch.from_numpy(x).double().clone() for x in (first, second))
            self.optimizer.state[parameter] = (
                {"step": torch.tensor(float(updates)), "exp_avg": mean, "exp_avg_sq": square}
                if self.rule.beta2
                else {"momentum_buffer": mean}
            )

    def step(self) -> None:
        if self.rule.clip:
            clip_grad_norm_(self.parameters, self.rule.clip)
        self.optimizer.step()
        with torch.no_grad():
            for parameter, mask in zip(self.parameters, self.masks, strict=True):
                parameter *= mask
