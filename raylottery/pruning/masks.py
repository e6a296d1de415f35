"""Masks: which entries of the prunable tensors a ticket keeps.

A `Masks` maps parameter names to boolean tensors, True where an entry survives. It is a value: it
copies what it is given, refuses what is not a mask, and operations return new masks. Its order is
the order of the layers, which decides ties between layers when all are pruned together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from raylottery.errors import did_you_mean


class Masks(Mapping[str, Tensor]):
    """Named boolean tensors over the prunable parameters, in layer order."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        if not tensors:
            raise ValueError("masks need at least one tensor: nothing is prunable")
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise ValueError(f"the mask of {name!r} must be boolean, not {tensor.dtype}")
            if tensor.numel() == 0:
                raise ValueError(f"the mask of {name!r} has no entries: {tuple(tensor.shape)}")
        self._tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor], names: Iterable[str]) -> Masks:
        """Masks that keep every entry of the named weights."""
        return cls({name: torch.ones_like(weights[name], dtype=torch.bool) for name in names})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        return self.keys() == other.keys() and all(
            torch.equal(mask, other[name]) for name, mask in self.items()
        )

    def __repr__(self) -> str:
        return f"Masks({self.kept} of {self.prunable} kept in {len(self)} layers)"

    @property
    def prunable(self) -> int:
        return sum(mask.numel() for mask in self.values())

    @property
    def kept(self) -> int:
        return sum(int(mask.count_nonzero()) for mask in self.values())

    @property
    def density(self) -> float:
        return self.kept / self.prunable

    def nested_in(self, other: Masks) -> bool:
        """Whether every entry kept here is kept in `other` too."""
        return self.keys() == other.keys() and all(
            mask.shape == other[name].shape and not bool((mask & ~other[name]).any())
            for name, mask in self.items()
        )

    def fits(self, weights: Mapping[str, Tensor]) -> None:
        """Raises unless each mask has weights of its name and shape."""
        for name, mask in self.items():
            if name not in weights:
                hint = did_you_mean(name, weights)
                raise ValueError(f"there is a mask for {name!r} but no such weights. {hint}")
            if mask.shape != weights[name].shape:
                raise ValueError(
                    f"the mask of {name!r} is {tuple(mask.shape)} but its weights are "
                    f"{tuple(weights[name].shape)}: it belongs to another network"
                )
