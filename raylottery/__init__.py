"""Lottery-ticket studies at any scale, on Ray.

Importing this loads neither ray nor torch nor pandas; each command loads what it needs.
"""

from __future__ import annotations


__version__ = "0.1.0"
