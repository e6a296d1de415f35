"""A mixin by which any of RLlib's torch learners keeps pruned weights at zero.

    class MaskedPPOLearner(MaskedLearner, PPOTorchLearner): ...

It knows nothing of the algorithm, but that each module has one optimizer. Gradients are masked
before RLlib clips them, so that the norm sees survivors alone and Adam's moments of pruned weights
stay zero; weights are masked after each optimizer step, before anything else (a target network,
an env runner) is copied from them. The masks are part of the learner's state: restored weights are
never without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from raylottery.pruning import Masks
from raylottery.pruning.guard import Guard


MASKS = "masks"


class MaskedLearner:
    """Goes before a TorchLearner in a class's bases."""

    guards: dict[str, Guard]
    masks: dict[str, Masks]
    revived: int
    """Pruned weights found non-zero after an optimizer step, wherever `counting` was on."""
    counting: bool

    def build(self) -> None:
        super().build()  # ty: ignore[missing-attribute] (of the learner it is mixed into)
        self.guards, self.masks = {}, {}
        self.revived, self.counting = 0, False

    def hold(self, masks: Mapping[str, Masks]) -> None:
        """Prune these modules' parameters, now and from now on."""
        self.masks = dict(masks)
        self.guards = {}
        for module_id, named in self.masks.items():
            [(_, optimizer)] = self.get_optimizers_for_module(module_id)  # ty: ignore
            parameters = self.module[module_id].unwrapped().named_parameters()  # ty: ignore
            self.guards[module_id] = Guard(parameters, named, optimizer)
            self.guards[module_id].hold()

    def postprocess_gradients(self, gradients_dict):
        for guard in self.guards.values():
            guard.mask_gradients()
        return super().postprocess_gradients(gradients_dict)  # ty: ignore

    def apply_gradients(self, gradients_dict) -> None:
        super().apply_gradients(gradients_dict)  # ty: ignore
        for guard in self.guards.values():
            if self.counting:
                self.revived += guard.revived()
            guard.mask_weights()

    def get_state(self, components=None, *, not_components=None, **kwargs) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)  # ty: ignore
        if components is None:
            state[MASKS] = {
                module_id: {name: mask.cpu().numpy() for name, mask in masks.items()}
                for module_id, masks in self.masks.items()
            }
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)  # ty: ignore
        masks = {
            module_id: Masks({name: torch.from_numpy(mask) for name, mask in named.items()})
            for module_id, named in state.get(MASKS, {}).items()
        }
        self.hold(masks or self.masks)
