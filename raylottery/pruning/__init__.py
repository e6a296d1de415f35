"""The paper's operations on tensors: what may be pruned, what goes, what comes back.

Weights are state_dicts (names to tensors); masks are `Masks`. Nothing here changes a module.
"""

from __future__ import annotations

from raylottery.pruning.controls import alter
from raylottery.pruning.guard import Guard
from raylottery.pruning.masks import Masks
from raylottery.pruning.prunable import prunable
from raylottery.pruning.prune import prune
from raylottery.pruning.rewind import apply_mask
from raylottery.pruning.scopes import SCOPES
from raylottery.pruning.scores import SCORES


__all__ = [
    "prunable",
    "Masks",
    "SCORES",
    "SCOPES",
    "prune",
    "apply_mask",
    "alter",
    "Guard",
]
