"""The paper's operations on tensors: what may be pruned, what goes, what comes back.

Weights are state_dicts (names to tensors); masks are `Masks`. Nothing here changes a module.
"""

from __future__ import annotations

from raylottery.pruning.controls import alter
from raylottery.pruning.guard import Guard
from raylottery.pruning.masks import Masks
from raylottery.pruning.prunable import Prunable, prunable
from raylottery.pruning.prune import prune
from raylottery.pruning.rewind import apply_mask
from raylottery.pruning.scopes import SCOPES, erk_counts
from raylottery.pruning.scores import SCORES


__all__ = [
    "Prunable",
    "prunable",
    "Masks",
    "SCORES",
    "SCOPES",
    "erk_counts",
    "prune",
    "apply_mask",
    "alter",
    "Guard",
]
