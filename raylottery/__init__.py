"""Lottery-ticket studies at any scale, on Ray.

`raylottery.load("name")` opens what a sweep has written. Importing this loads neither ray nor
torch nor pandas; each command loads what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from raylottery.analysis import load


__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    """`load`, which needs pandas, when it is first asked for."""
    if name == "load":
        return import_module("raylottery.analysis").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
