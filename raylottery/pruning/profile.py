"""What a mask leaves of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raylottery.pruning.masks import Masks


@dataclass(frozen=True)
class LayerProfile:
    """One row of `layers.parquet`, without its ids."""

    layer: str
    shape: str
    prunable: int
    kept: int
    density: float
    dead_in: int
    """Inputs that no kept weight reads."""
    dead_out: int
    """Outputs that no kept weight reaches."""
    flops_kept: int
    """Multiply-adds for one example that a kernel using every zero would still make."""


def profile(masks: Masks, positions: Mapping[str, int]) -> Iterator[LayerProfile]:
    """The profile of each masked tensor; `positions` says how often a layer's weights are used."""
    for name, mask in masks.items():
        kept = int(mask.sum())
        per_output = mask.reshape(mask.shape[0], -1)
        per_input = mask.transpose(0, 1).reshape(mask.shape[1], -1) if mask.dim() > 1 else None
        yield LayerProfile(
            layer=name,
            shape="x".join(str(n) for n in mask.shape),
            prunable=mask.numel(),
            kept=kept,
            density=kept / mask.numel(),
            dead_in=0 if per_input is None else int((~per_input.any(dim=1)).sum()),
            dead_out=int((~per_output.any(dim=1)).sum()),
            flops_kept=kept * positions[name],
        )
