"""The untrained network that scores look at, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


Weights = Mapping[str, Tensor]


@dataclass
class Beginning:
    """Linear layers without biases, one after the other, and gradients as they are given."""

    weights: Weights
    gradients: Weights = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    """The entries that were not zero, each time the flow was asked for."""

    def loss_gradients(self) -> Weights:
        return self.gradients or {name: torch.zeros_like(w) for name, w in self.weights.items()}

    def norm_gradients(self, names: Sequence[str]) -> Weights:
        """As they are given too."""
        return {name: self.loss_gradients()[name] for name in names}

    def flow_gradients(self, weights: Weights) -> Weights:
        """Those of a chain of the matrices among the weights, in order."""
        leaves = {name: w.detach().clone() for name, w in weights.items() if w.dim() == 2}
        self.asked.append(sum(int(w.count_nonzero()) for w in leaves.values()))
        x = torch.ones(next(iter(leaves.values())).shape[1], dtype=torch.float64)
        for w in leaves.values():
            assert w.dtype == torch.float64
            assert bool((w >= 0).all())
            x = w.requires_grad_() @ x
        found = torch.autograd.grad(x.sum(), [*leaves.values()])
        return dict(zip(leaves, found, strict=True))
