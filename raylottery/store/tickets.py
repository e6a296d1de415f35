"""Tickets as safetensors: named sections of tensors, `mask.fc1.weight`, `trained.fc1.weight`.

Equal tensors give equal bytes, and a damaged file is refused. Plain `safetensors` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor

from raylottery.errors import LostRound
from raylottery.store.damage import damaged
from raylottery.store.layout import TICKET, round_file
from raylottery.store.record import Record
from raylottery.store.rounds import Store
from raylottery.store.sealed import open_seal, seal


Sections = dict[str, dict[str, Tensor]]


def pack(
    sections: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Sections of tensors, and what to say about them, as the bytes of one safetensors file."""
    tensors = {}
    for section, named in sections.items():
        if not section or "." in section:
            raise ValueError(f"{section!r} cannot name a section: it ends at the first dot")
        for name, tensor in named.items():
            # A copy of its own: safetensors refuses tensors that share memory (tied weights).
            tensors[f"{section}.{name}"] = tensor.detach().cpu().contiguous().clone()
    return seal(safetensors.torch.save(tensors), metadata or {})


def unpack(data: bytes) -> tuple[Sections, dict[str, str]]:
    """The sections and the metadata; ValueError if the file is damaged."""
    metadata = open_seal(data)
    sections: Sections = {}
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"its header does not fit its tensors ({error})") from error
    for full_name, tensor in sorted(tensors.items()):
        section, _, name = full_name.partition(".")
        sections.setdefault(section, {})[name] = tensor
    return sections, metadata


def read_ticket(record: Record, store: Store) -> Sections:
    """What a finished round kept; LostRound if it is damaged or gone."""
    data = store.read_file(record, TICKET)
    try:
        return unpack(data)[0]
    except ValueError as error:
        path = round_file(record.key, record.files[TICKET].path)
        raise LostRound(damaged(store.files, path, str(error)), record.key) from error
