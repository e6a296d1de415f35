"""The networks a classifier sweep can name. Parameter names never change, pruned or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raylottery.errors import UsageError
from raylottery.pruning.prunable import CONNECTIONS
from raylottery.sizes.dense import mlp
from raylottery.spec import ClassifierTrainer, DataSize, parse_cnn
from raylottery.trainers.base import seeded
from raylottery.trainers.classifier.nets.plain import MLP, ResidualMLP, cnn, conv, vgg
from raylottery.trainers.positions import blank


INITIALISERS = {"glorot": nn.init.xavier_normal_, "kaiming": nn.init.kaiming_normal_}
"""Both normal; Kaiming's of the inputs' number, for rectifiers."""


def build(spec: ClassifierTrainer) -> nn.Module:
    """The network of a specification, freshly initialised."""
    net = made(spec.model, spec.size)
    if spec.initialisation != "torch":
        initialise(net, spec.initialisation)
    return net


def skeleton(spec: ClassifierTrainer) -> nn.Module:
    """The network for its names and shapes: without storage, where that can be."""
    with seeded():
        if ":" in spec.model and not spec.model.startswith("torchvision:"):
            return build(spec)  # nothing is known of what a user's own code reads
        try:
            with torch.device("meta"):
                return build(spec)
        except NotImplementedError:  # torchvision's regnets work their widths out with tensors
            return build(spec)


def made(model: str, size: DataSize) -> nn.Module:
    """The network called `model`, initialised by torch's rules or, if it has any, by its own."""
    if dense := mlp(model):
        residual, hidden = dense
        return (ResidualMLP if residual else MLP)(size.inputs, hidden, size.classes)
    if channels := parse_cnn(model):
        return cnn(channels, size)
    if ":" in model:
        from raylottery.trainers.classifier.nets.elsewhere import elsewhere

        return elsewhere(model, size)
    if model.startswith("resnet"):
        from raylottery.trainers.classifier.nets.resnets import resnet  # loads torchvision

        return resnet(model, size)
    return (vgg if model.startswith("vgg") else conv)(model, size)


@torch.no_grad()
def initialise(net: nn.Module, rule: str) -> None:
    """Draw the weights of convolutions and linear layers by a rule; their biases become zero."""
    for layer in net.modules():
        if isinstance(layer, CONNECTIONS):
            INITIALISERS[rule](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def refuse_unfit(net: nn.Module, spec: ClassifierTrainer) -> None:
    """Refuse a network that does not take the data or does not give an output for each class."""
    if isinstance(net, MLP | ResidualMLP):
        return  # made to fit; and without storage, a forward pass would load torch's compiler
    x = blank(net, spec.size.shape)
    given = f"{'x'.join(map(str, spec.size.shape))} ({spec.dataset})"
    try:
        with seeded():
            found = net(x)
    except Exception as error:
        raise UsageError(
            f"trainer.model: {spec.model} does not take examples of {given}: "
            f"{type(error).__name__}: {error}. Say another model, or another data set."
        ) from error
    wanted = (len(x), spec.size.classes)
    if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"trainer.model: {spec.model} gives {shape} for {len(x)} examples of {given}, and not "
            f"{wanted}: a number for each of the {spec.size.classes} classes. Mend its last layer."
        )
