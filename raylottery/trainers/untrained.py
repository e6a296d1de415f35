"""The dense network before any training, as scores that prune at initialisation look at it.

Whatever engine trains the network, and wherever, it is looked at by torch on the CPU: a mask that
is drawn from it is the same on every device.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from raylottery.errors import TrainingError
from raylottery.spec import ClassifierTrainer, DQNTrainer
from raylottery.trainers.base import Weights, seeded


TEMPERATURE = 200.0
"""Of GraSP, as its authors set it: outputs so small that every class is as likely."""


class UntrainedNet:
    """The network of a trainer's specification, with the weights a seed begins with."""

    def __init__(self, spec: ClassifierTrainer | DQNTrainer, weights: Weights, data_seed: int):
        self.spec = spec
        self.weights = weights
        self.data_seed = data_seed
        """Of the dense round."""

    @functools.cached_property
    def built(self) -> tuple[nn.Module, tuple[int, ...]]:
        """The network, of any weights, and the shape of what it takes."""
        with seeded(0):
            if isinstance(self.spec, DQNTrainer):
                from raylottery.trainers.dqn import envs, nets

                space = envs.spaces(self.spec)
                return nets.build(self.spec, space), space.shape
            from raylottery.trainers.classifier import nets as classifiers

            return classifiers.build(self.spec), self.spec.size.shape

    def loss_gradients(self) -> Mapping[str, Tensor]:
        """Of the training's loss on the batch that the dense round begins with."""
        weights, loss = self.loss(temperature=1)
        with one_thread():
            return gradients(loss, weights)

    def norm_gradients(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Of half the squared norm of that gradient by some parameters: the product of the Hessian
        and the gradient. Outputs are divided by a temperature before the loss is taken."""
        weights, loss = self.loss(temperature=TEMPERATURE)
        chosen = {name: weights[name] for name in names}
        with one_thread():
            slopes = gradients(loss, chosen, create_graph=True)
            squares = torch.stack([slope.square().sum() for slope in slopes.values()])
            return gradients(squares.sum() / 2, chosen)

    def loss(self, temperature: float) -> tuple[dict[str, Tensor], Tensor]:
        """Leaves that are the weights, and the loss on the batch the dense round begins with."""
        from raylottery.trainers.classifier import data
        from raylottery.trainers.classifier.loop import Batches

        assert isinstance(self.spec, ClassifierTrainer)
        x, y = Batches(data.load(self.spec, "cpu"), self.spec, self.data_seed).at(0)
        net, _ = self.built
        net.train()
        weights = leaves(net, self.weights)
        with seeded(self.data_seed), one_thread():  # a network may draw, as dropout does
            outputs = functional_call(net, weights, x)
            return weights, functional.cross_entropy(outputs / temperature, y)

    def flow_gradients(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of the sum of all outputs for an input of ones, with these weights."""
        net, shape = self.built
        net.eval()
        weights = leaves(net, weights)
        ones = torch.ones((1, *shape), dtype=torch.float64)
        try:
            with seeded(self.data_seed), one_thread():
                return gradients(functional_call(net, weights, ones).sum(), weights)
        except RuntimeError as error:
            raise TrainingError(
                f"synflow cannot be worked out for {self.spec.model}, which does not take numbers "
                f"of double precision: {error}. Take another prune.score"
            ) from error


def leaves(net: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """Copies of weights, of which the parameters take gradients."""
    parameters = dict(net.named_parameters())
    return {
        name: weight.detach().cpu().clone().requires_grad_(name in parameters)
        for name, weight in weights.items()
    }


def gradients(
    value: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Of a value by each parameter; zero where it does not depend on it."""
    names = [name for name, weight in weights.items() if weight.requires_grad]
    found = torch.autograd.grad(
        value,
        [weights[name] for name in names],
        create_graph=create_graph,
        materialize_grads=True,
        allow_unused=True,
    )
    return dict(zip(names, found, strict=True))


@contextmanager
def one_thread() -> Generator[None]:
    """The number of torch's threads changes the last bits, and with them what is pruned."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
