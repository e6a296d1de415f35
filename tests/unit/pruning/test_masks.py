"""Masks are values: validated, copied, ordered, nested or not."""

from __future__ import annotations

import pytest
import torch

from raylottery.pruning import Masks
from raylottery.pruning.profile import profile


def bits(*rows: str) -> torch.Tensor:
    return torch.tensor([[entry == "1" for entry in row] for row in rows])


def test_masks_count_what_they_keep():
    masks = Masks({"a.weight": bits("110", "000"), "b.weight": bits("1", "1")})
    assert (masks.kept, masks.prunable, masks.density) == (4, 8, 0.5)
    assert list(masks) == ["a.weight", "b.weight"]


def test_dense_masks_keep_every_entry_of_the_named_weights_only():
    weights = {"b": torch.zeros(3, 2), "a": torch.zeros(4), "bias": torch.zeros(2)}
    masks = Masks.dense(weights, ["b", "a"])
    assert list(masks) == ["b", "a"]
    assert masks.kept == masks.prunable == 10
    assert masks.density == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_masks_refuse_tensors_that_are_not_boolean(dtype):
    with pytest.raises(ValueError, match=r"the mask of 'fc\.weight' must be boolean"):
        Masks({"fc.weight": torch.ones(2, 2, dtype=dtype)})


def test_masks_refuse_to_be_empty():
    with pytest.raises(ValueError, match="nothing is prunable"):
        Masks({})
    with pytest.raises(ValueError, match=r"'fc\.weight' has no entries"):
        Masks({"fc.weight": torch.ones(0, 3, dtype=torch.bool)})


def test_masks_do_not_share_memory_with_what_they_are_made_of():
    """Masks edited in place change behind the back of whoever else holds them."""
    source = bits("11")
    masks = Masks({"a": source})
    source.fill_(False)
    assert masks.kept == 2


def test_masks_are_equal_by_content_whatever_their_order():
    one = Masks({"a": bits("10"), "b": bits("1")})
    assert one == Masks({"b": bits("1"), "a": bits("10")})
    assert one != Masks({"a": bits("01"), "b": bits("1")})
    assert one != Masks({"a": bits("10")})


def test_masks_are_nested_only_if_nothing_comes_back():
    masks = Masks({"a": bits("1100")})
    assert masks.nested_in(masks)
    assert Masks({"a": bits("0100")}).nested_in(masks)
    assert not masks.nested_in(Masks({"a": bits("0100")}))
    assert not Masks({"a": bits("0010")}).nested_in(masks)
    assert not Masks({"a": bits("11")}).nested_in(masks)
    assert not Masks({"b": bits("1100")}).nested_in(masks)


def test_masks_fit_weights_of_their_names_and_shapes():
    masks = Masks({"fc1.weight": bits("10", "01")})
    masks.fits({"fc1.weight": torch.zeros(2, 2), "fc1.bias": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"Did you mean 'fc2\.weight'\?"):
        masks.fits({"fc2.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"\(2, 2\) but its weights are \(2, 3\)"):
        masks.fits({"fc1.weight": torch.zeros(2, 3)})


def test_profile_counts_dead_inputs_and_outputs():
    conv = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    conv[1, 0, 1, 1] = True
    masks = Masks({"conv": conv, "fc": bits("1010", "0000", "0010"), "bias": bits("10")[0]})
    rows = {row.layer: row for row in profile(masks, {"conv": 9, "fc": 1, "bias": 1})}
    assert (rows["conv"].shape, rows["conv"].kept, rows["conv"].prunable) == ("2x3x2x2", 1, 24)
    assert (rows["conv"].dead_in, rows["conv"].dead_out, rows["conv"].flops_kept) == (2, 1, 9)
    assert (rows["fc"].dead_in, rows["fc"].dead_out, rows["fc"].density) == (2, 1, 0.25)
    assert (rows["bias"].shape, rows["bias"].dead_in, rows["bias"].dead_out) == ("2", 0, 1)
