"""The hidden units of any network, seen while it runs.

They are seen where a rectifier, or another activation, gives them out, and belong to the layer
whose product was made last before it. Calls are watched as they are made, so that it does not
matter which module makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from raylottery.trainers.positions import NORMS, PRODUCTS, TRANSPOSED


ACTIVATIONS = {
    functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
    functional.relu6, functional.leaky_relu, functional.elu, functional.gelu, functional.silu,
    functional.mish, functional.hardswish, functional.tanh, torch.tanh, Tensor.tanh,
}  # fmt: skip
FLAT = {functional.linear, functional.multi_head_attention_forward}
"""Products whose units are the last dimension of what they give; of others, the second."""

Seeing = Callable[[str, Tensor, int], None]
"""Is told of a layer, by the name of its weights, of what its units give, and along which
dimension they lie."""


class Units(TorchFunctionMode):
    """Tells what the hidden units of a network give in the passes that are made meanwhile."""

    def __init__(self, net: nn.Module, see: Seeing, *, linear: bool = False):
        """`linear` leaves out all activations and norms."""
        super().__init__()
        self.names: dict[Tensor, str] = {
            parameter: name for name, parameter in net.named_parameters() if parameter.dim() > 1
        }
        self.see = see
        self.linear = linear
        self.layer: tuple[str, int] | None = None
        """Whose product was made last, and where its units lie."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.linear and (func in ACTIVATIONS or func in NORMS):
            found = args[0]
        else:
            found = func(*args, **kwargs)
        if func in PRODUCTS or func in TRANSPOSED:
            given = [v for v in (*args, *kwargs.values()) if isinstance(v, nn.Parameter)]
            names = [self.names[parameter] for parameter in given if parameter in self.names]
            self.layer = (names[0], -1 if func in FLAT else 1) if names else None
        elif func in ACTIVATIONS and self.layer is not None:
            self.see(self.layer[0], found, self.layer[1])
            self.layer = None  # a second activation of the same units would count them twice
        return found
