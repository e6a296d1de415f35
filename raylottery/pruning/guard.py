"""The guard: pruned entries stay at zero while a network trains.

A training loop calls `hold` once the weights are loaded, and then in each step

    loss.backward(); guard.mask_gradients(); clip; optimizer.step(); guard.mask_weights()

Gradients are masked before clipping, so that its norm sees survivors alone and the optimizer's
moments of pruned entries stay at zero. Weights are masked after the step, because an optimizer may
move an entry whose gradient is zero. Names, modules and state_dict keys are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raylottery.pruning.masks import Masks


class Guard:
    """Keeps pruned weights, their gradients and their optimizer moments at zero."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        masks: Masks,
        optimizer: torch.optim.Optimizer,
    ):
        named = dict(named_parameters)
        masks.fits(named)
        self._weights: list[Tensor] = [named[name] for name in masks]
        # In the weights' own type, device and strides, so that one fused product applies them.
        self._masks = [
            torch.empty_like(named[name], requires_grad=False).copy_(mask)
            for name, mask in masks.items()
        ]
        self._optimizer = optimizer

    @torch.no_grad()
    def hold(self) -> None:
        """Zeroes what is pruned in the weights and in any state the optimizer already has."""
        for weight, mask in zip(self._weights, self._masks, strict=True):
            moments = [
                value
                for value in self._optimizer.state.get(weight, {}).values()
                if isinstance(value, Tensor) and value.shape == weight.shape
            ]
            for tensor in (weight, *moments):
                tensor.masked_fill_(mask == 0, 0.0)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zeroes the gradients of pruned entries; call between backward and clipping."""
        pairs = [
            (weight.grad, mask)
            for weight, mask in zip(self._weights, self._masks, strict=True)
            if weight.grad is not None
        ]
        if pairs:
            gradients, masks = zip(*pairs, strict=True)
            torch._foreach_mul_(gradients, masks)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zeroes pruned weights; call after the optimizer's step."""
        # A product keeps NaN, so that an entry which diverged is counted as revived, not hidden.
        torch._foreach_mul_(self._weights, self._masks)

    def revived(self) -> int:
        """The number of pruned entries that are not zero."""
        return sum(
            int(((weight != 0) & (mask == 0)).count_nonzero())
            for weight, mask in zip(self._weights, self._masks, strict=True)
        )
