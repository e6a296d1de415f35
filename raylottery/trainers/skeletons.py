"""Networks for their names and shapes: made by torch, but without storage where that can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from raylottery.pruning.prunable import prunable
from raylottery.sizes.prunable import Prunable
from raylottery.spec import ClassifierTrainer, DQNTrainer


Shapes = dict[str, tuple[int, ...]]


def described(
    spec: ClassifierTrainer | DQNTrainer, *, biases: bool, exclude: Sequence[str]
) -> tuple[Shapes, Prunable]:
    """The shapes of all parameters of the network a trainer would train, and the prunable ones."""
    if isinstance(spec, DQNTrainer):
        from raylottery.trainers.dqn import envs, nets

        space = envs.spaces(spec)
        with torch.device("meta"):
            net = nets.build(spec, space)
        layers = nets.layers(net, biases=biases, exclude=exclude)
    else:
        from raylottery.trainers.classifier.nets import refuse_unfit, skeleton

        net = skeleton(spec)
        layers = prunable(net, biases=biases, exclude=exclude)
        refuse_unfit(net, spec)
    return {name: tuple(p.shape) for name, p in net.named_parameters()}, layers
