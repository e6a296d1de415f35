"""The networks a classifier sweep can name. Parameter names never change, pruned or not."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from raylottery.spec.classifier import parse_model


def build(model: str, inputs: int, classes: int) -> nn.Module:
    """The network called `model`, freshly initialised by torch's own rules."""
    residual, hidden = parse_model(model)
    if residual:
        return ResidualMLP(inputs, hidden, classes)
    return mlp(inputs, hidden, classes)


def mlp(inputs: int, hidden: tuple[int, ...], classes: int) -> nn.Sequential:
    """Linear layers with rectifiers between them, as LeNet-300-100."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((inputs, *hidden)):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], classes))


class ResidualMLP(nn.Module):
    """An MLP whose hidden layers add to what they are given, as in the MNIST-1D studies."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int):
        super().__init__()
        self.first = nn.Linear(inputs, hidden[0])
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.last = nn.Linear(hidden[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for block in self.blocks:
            x = x + block(x).relu()
        return self.last(x)
