"""Tickets survive the trip through bytes, and damage does not."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as plain_load

from raylottery.store.sealed import open_seal, seal
from raylottery.store.tickets import pack, unpack


def ticket() -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        "mask": {"fc1.weight": torch.rand(3, 4, generator=generator) > 0.5},
        "trained": {
            "fc1.weight": torch.rand(3, 4, generator=generator),
            "norm.num_batches_tracked": torch.tensor(7),
            "fc1.bias": torch.tensor([float("nan"), -0.0, float("inf")]),
        },
    }


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def test_sections_come_back_bit_for_bit():
    sections, metadata = unpack(pack(ticket(), {"key": "ab", "arm": "scope=global"}))
    assert metadata == {"key": "ab", "arm": "scope=global"}
    assert {name: set(part) for name, part in sections.items()} == {
        name: set(part) for name, part in ticket().items()
    }
    for name, part in ticket().items():
        for key, tensor in part.items():
            back = sections[name][key]
            assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
            assert bits(back) == bits(tensor)


def test_plain_safetensors_reads_the_file():
    tensors = plain_load(pack(ticket()))
    assert set(tensors) == {
        "mask.fc1.weight",
        "trained.fc1.weight",
        "trained.fc1.bias",
        "trained.norm.num_batches_tracked",
    }
    assert bits(tensors["trained.fc1.weight"]) == bits(ticket()["trained"]["fc1.weight"])


def test_tied_transposed_and_tracked_weights_are_packed():
    weight = torch.rand(2, 3, requires_grad=True)
    sections, _ = unpack(
        pack({"weights": {"a": weight, "b": weight, "c": weight.t(), "d": weight[1]}})
    )
    back = sections["weights"]
    assert bits(back["a"]) == bits(back["b"]) == bits(weight.detach())
    assert bits(back["c"]) == bits(weight.detach().t())
    assert bits(back["d"]) == bits(weight.detach()[1])


def test_equal_tickets_have_equal_bytes_in_every_process():
    code = (
        "import sys, hashlib, torch; from raylottery.store.tickets import pack;"
        "w = {f'l{i}.weight': torch.full((2, i + 1), float(i)) for i in range(9)};"
        "m = {f'meta{i}': str(i) for i in range(9)};"
        "if_ = sys.argv[1] == 'backwards';"
        "w, m = (dict(reversed(d.items())) if if_ else d for d in (w, m));"
        "print(hashlib.sha256(pack({'weights': w}, m)).hexdigest())"
    )
    sums = {
        subprocess.run([sys.executable, "-c", code, way], capture_output=True, check=True).stdout
        for way in ("forwards", "backwards")
    }
    assert len(sums) == 1


@pytest.mark.parametrize("section", ["", "a.b"])
def test_a_section_that_could_not_be_told_apart_is_refused(section):
    with pytest.raises(ValueError, match="cannot name a section"):
        pack({section: {"x": torch.zeros(1)}})


PACKED = pack(ticket(), {"key": "ab"})


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place, change):
    broken = PACKED[:place] + bytes([PACKED[place] ^ change]) + PACKED[place + 1 :]
    try:
        metadata = open_seal(broken)
    except ValueError:
        return
    # What is said about the tensors is not summed, but then the tensors are whole.
    assert metadata != {"key": "ab"} or broken == PACKED
    size = int.from_bytes(PACKED[:8], "little") + 8
    assert hashlib.sha256(broken[size:]).digest() == hashlib.sha256(PACKED[size:]).digest()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(PACKED) - 1))
def test_a_file_cut_short_is_noticed(length):
    with pytest.raises(ValueError, match=r"it is no safetensors file|checksum"):
        unpack(PACKED[:length])


@pytest.mark.parametrize("data", [b"", b"12345678", b"\x02" + b"\0" * 7 + b"[]", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(data):
    with pytest.raises(ValueError, match="no safetensors file"):
        open_seal(data)


def test_a_seal_can_be_renewed():
    again = seal(PACKED, {"step": "35"})
    assert open_seal(again) == {"step": "35"}
    assert seal(again, {"key": "ab"}) == PACKED
