"""Networks without shortcuts: perceptrons, small conv nets, Conv-2, -4 and -6, VGG.

Images that a perceptron is given are flattened. Names follow torchvision where it has the like.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from raylottery.spec import DataSize


WIDTHS = {"conv-2": (64,), "conv-4": (64, 128), "conv-6": (64, 128, 256)}
"""Of the convolutions of each block: two, and a pooling that halves the image."""

BLOCKS = {
    "vgg-16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg-19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
}
"""Width and number of the convolutions of each block; a pooling lies between two blocks."""


class MLP(nn.Sequential):
    """Linear layers with rectifiers between them, as LeNet-300-100."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int):
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((inputs, *hidden)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        super().__init__(*layers, nn.Linear(hidden[-1], classes))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(1))


class ResidualMLP(nn.Module):
    """An MLP whose hidden layers add to what they are given, as in the MNIST-1D studies."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int):
        super().__init__()
        self.first = nn.Linear(inputs, hidden[0])
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.last = nn.Linear(hidden[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu()
        for block in self.blocks:
            x = x + block(x).relu()
        return self.last(x)


class ConvNet(nn.Module):
    """Convolutions that make features, and linear layers that read them."""

    def __init__(self, features: list[nn.Module], classifier: nn.Module):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def conv(model: str, size: DataSize) -> ConvNet:
    """Conv-2, -4 and -6 of Frankle and Carbin: VGG made small."""
    channels, height, width = size.shape
    layers: list[nn.Module] = []
    for wide in WIDTHS[model]:
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, height, width = wide, height // 2, width // 2
    return ConvNet(layers, MLP(channels * height * width, (256, 256), size.classes))


def cnn(channels: tuple[int, ...], size: DataSize) -> ConvNet:
    """Convolutions with batch norm, each of which halves the image, and one linear layer."""
    layers: list[nn.Module] = []
    for before, wide in pairwise((size.shape[0], *channels)):
        layers += [nn.Conv2d(before, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return ConvNet([*layers, nn.AdaptiveAvgPool2d(1)], nn.Linear(channels[-1], size.classes))


def vgg(model: str, size: DataSize) -> ConvNet:
    """VGG for small images: an average over what is left of them, and one linear layer."""
    channels = size.shape[0]
    layers: list[nn.Module] = []
    for wide, depth in BLOCKS[model]:
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(depth):
            layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
    return ConvNet([*layers, nn.AdaptiveAvgPool2d(1)], nn.Linear(channels, size.classes))
