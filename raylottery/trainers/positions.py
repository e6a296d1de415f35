"""How often each weight of a network is used for one example.

A weight of a linear layer is used once, or once for each token; one of a convolution at each pixel
of its output (of its input, where it is transposed), whatever its groups: an output that reads
fewer channels has fewer weights. Products are watched as they are made, so that it does not matter
which module makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from raylottery.trainers.base import seeded


EXAMPLES = 2
"""In the batch that is passed through: batch norms do not train on one."""

PRODUCTS = {
    functional.linear, functional.conv1d, functional.conv2d, functional.conv3d,
    functional.multi_head_attention_forward,
}  # fmt: skip
TRANSPOSED = {
    functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d,
}  # fmt: skip
NORMS = {
    functional.batch_norm, functional.instance_norm, functional.layer_norm,
    functional.group_norm, functional.rms_norm,
}  # fmt: skip


def blank(net: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """A batch of zeros where a network is."""
    return torch.zeros((EXAMPLES, *shape), device=next(net.parameters()).device)


@torch.no_grad()
def positions(net: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """How often each parameter is used for one example of a shape; 0 where no layer reads it."""
    names: dict[Tensor, str] = {tensor: name for name, tensor in net.named_parameters()}
    watch = Watch(names)
    with seeded(), watch:
        net(blank(net, shape))
    return {name: watch.uses[name] // EXAMPLES for name in names.values()}


class Watch(TorchFunctionMode):
    """Counts the uses of named parameters in the layers that are called meanwhile."""

    def __init__(self, names: Mapping[Tensor, str]):
        super().__init__()
        self.names = names
        self.uses = dict.fromkeys(names.values(), 0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in PRODUCTS or func in TRANSPOSED or func in NORMS:
            output = found[0] if isinstance(found, tuple) else found
            for value in (*args, *(kwargs or {}).values()):
                if isinstance(value, nn.Parameter):
                    transposed = func in TRANSPOSED and value.dim() > 1
                    side = args[0] if transposed else output
                    entries = value.numel() if func in NORMS else len(value)
                    self.uses[self.names[value]] += side.numel() // entries
        return found
