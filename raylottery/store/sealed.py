"""A safetensors file that carries the checksum of its own tensors. Knows no torch.

The header is written anew, so that equal tensors and equal metadata give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


CHECKSUM = "sha256"


def seal(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """The same safetensors file with `metadata` and the checksum of its tensors in the header."""
    header, body = _split(data)
    header.pop("__metadata__", None)
    # The tensors' names and shapes are summed too: weights under another name are other weights.
    entries = {"__metadata__": dict(sorted(metadata.items())), **header}
    entries["__metadata__"][CHECKSUM] = _checksum(header, body)
    return _opening(entries) + body


def open_seal(data: bytes) -> dict[str, str]:
    """The metadata of a sealed file; ValueError if the file is not what was sealed."""
    header, body = _split(data)
    if not data.startswith(_opening(header)):
        raise ValueError("its header is not as it was written")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("its header is not as it was written")
    if metadata.pop(CHECKSUM, None) != _checksum(header, body):
        raise ValueError("its tensors do not have the checksum that its header names")
    return metadata


def _opening(header: Mapping[str, object]) -> bytes:
    """The header as it is written, its length first."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _split(data: bytes) -> tuple[dict, bytes]:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        raise ValueError("it is no safetensors file, or it was cut short")
    try:
        header = json.loads(data[8 : 8 + size])
    except RecursionError as error:
        raise ValueError("it is no safetensors file") from error
    if not isinstance(header, dict):
        raise ValueError("it is no safetensors file")
    return header, data[8 + size :]


def _checksum(header: Mapping[str, object], body: bytes) -> str:
    layout = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(layout + body).hexdigest()
