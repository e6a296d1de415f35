"""Residual networks for small images, made of torchvision's parts and with its names.

A wider shortcut is a 1x1 convolution and a batch norm, called `downsample`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.resnet import BasicBlock, ResNet, conv1x1, conv3x3

from raylottery.spec import DataSize


BLOCKS = {"resnet-20": 3, "resnet-56": 9}
"""Blocks of two convolutions in each of the three stages."""


def resnet(model: str, size: DataSize) -> nn.Module:
    """ResNet-20 and -56 as they were made for CIFAR; ResNet-18 and -50 with a stem for it."""
    if model in BLOCKS:
        return SmallResNet(size, BLOCKS[model])
    return with_small_stem(get_model(model.replace("-", ""), num_classes=size.classes), size)


class SmallResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels; Frankle and Carbin call the one of 20 ResNet-18."""

    def __init__(self, size: DataSize, blocks: int):
        super().__init__()
        self.conv1 = conv3x3(size.shape[0], 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, size.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def stage(channels: int, wide: int, stride: int, blocks: int) -> nn.Sequential:
    """Blocks of one width, of which the first may halve the image and widen it."""
    widens = stride != 1 or channels != wide
    shortcut = nn.Sequential(conv1x1(channels, wide, stride), nn.BatchNorm2d(wide))
    first = BasicBlock(channels, wide, stride, shortcut if widens else None)
    return nn.Sequential(first, *(BasicBlock(wide, wide) for _ in range(blocks - 1)))


def with_small_stem(net: nn.Module, size: DataSize) -> nn.Module:
    """A ResNet that looks at every pixel at first: a 3x3 convolution of stride 1, no pooling."""
    assert isinstance(net, ResNet)
    net.conv1 = conv3x3(size.shape[0], 64)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as its others
    net.register_module("maxpool", nn.Identity())
    return net
