"""Controls: the same round trained from a ticket altered in one stated way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Control:
    """Where the mask and the weights of a control come from."""

    mask: str
    """`imp` (the ticket's own), `permuted-layer` or `permuted-global`."""
    weights: str
    """`ticket` (the ticket's own), `reinit` or `permuted-layer`."""


CONTROLS = {
    "reinit": Control(mask="imp", weights="reinit"),
    "permuted-weights": Control(mask="imp", weights="permuted-layer"),
    "permuted-mask": Control(mask="permuted-layer", weights="ticket"),
    "permuted-both": Control(mask="permuted-layer", weights="permuted-layer"),
    "random-ticket": Control(mask="permuted-layer", weights="reinit"),
    "random-global": Control(mask="permuted-global", weights="reinit"),
}
