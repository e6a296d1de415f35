"""Masks that are the same overlap whole, and masks that chance drew no more than chance would."""

from __future__ import annotations

import pytest
import torch

from raylottery.probes.overlap import common
from raylottery.pruning import Masks
from raylottery.pruning.controls import permuted_within_layers


def drawn(seed: int, *layers: tuple[tuple[int, int], float]) -> Masks:
    chance = torch.Generator().manual_seed(seed)
    return Masks({
        f"{index}.weight": torch.rand(shape, generator=chance) < density
        for index, (shape, density) in enumerate(layers)
    })  # fmt: skip


LAYERS = (((200, 100), 0.3), ((100, 50), 0.05), ((50, 10), 0.8))


def test_a_mask_overlaps_itself_whole():
    masks = drawn(0, *LAYERS)
    found = common(masks, masks)
    assert found.overlap == 1
    assert found.both == found.either == masks.kept
    assert found.chance < 0.4


def test_masks_with_nothing_in_common_overlap_nowhere():
    masks = drawn(0, *LAYERS)
    others = Masks({name: ~mask for name, mask in masks.items()})
    found = common(masks, others)
    assert (found.both, found.overlap) == (0, 0)
    assert found.either == masks.prunable


def test_a_permuted_mask_overlaps_as_chance_has_it():
    """Chance knows the layers: of all in one pool it would expect less."""
    masks = drawn(0, *LAYERS)
    permuted = permuted_within_layers(masks, torch.Generator().manual_seed(1))
    found = common(masks, permuted)
    assert found.overlap == pytest.approx(found.chance, abs=0.01)
    assert found.expected == pytest.approx(0.09 * 20000 + 0.0025 * 5000 + 0.64 * 500, rel=0.05)
    pooled = masks.kept**2 / masks.prunable
    assert found.expected > 1.2 * pooled


def test_chance_counts_the_layers_of_each():
    one = Masks({"a": torch.tensor([True] * 4), "b": torch.tensor([True, False, False, False])})
    two = Masks({"a": torch.tensor([True, True, False, False]), "b": torch.tensor([True] * 4)})
    found = common(one, two)
    assert (found.both, found.either) == (3, 8)
    assert found.expected == 4 * 2 / 4 + 1 * 4 / 4
    assert found.chance == 3 / 8
