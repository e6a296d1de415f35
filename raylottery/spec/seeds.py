"""Seeds derived by name, so that each stream of chance has its own and every arm the same."""

from __future__ import annotations

from raylottery.spec.fingerprint import fingerprint


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from what it is for, as in `derive_seed("data", seed, round, replicate)`."""
    for part in parts:
        if type(part) not in (int, str):
            raise TypeError(f"a seed is derived from whole numbers and names, not {part!r}.")
    return int(fingerprint(list(parts), length=16), 16) >> 1
