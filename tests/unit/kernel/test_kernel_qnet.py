"""The networks that agents have, plain and dueling, are the kernel's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylottery.kernel import Layer, Network, losses
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.extent import Extent
from raylottery.trainers.dqn import nets
from raylottery.trainers.dqn.envs import EnvSpaces
from tests.unit.kernel.samples import PATHS, called, network


ACTIONS, BATCH = 3, 20


def as_layers(parameters: dict[str, np.ndarray], *, dueling: bool) -> list[Layer]:
    """Dueling heads are one layer, value first."""
    heads = ["value", "advantage"] if dueling else ["head"]
    body = sorted({name.rpartition(".")[0] for name in parameters if name.startswith("body")})
    groups = [*([name] for name in body), heads]
    return [
        Layer(
            np.concatenate([parameters[f"{name}.weight"] for name in group]),
            np.concatenate([parameters[f"{name}.bias"] for name in group]),
        )
        for group in groups
    ]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dueling", [False, True])
def test_values_and_gradients_are_the_networks(dueling: bool, path: str) -> None:
    length = Extent.parse("2000ts")
    spec = DQNTrainer(
        kind="dqn", env="CartPole-v1", length=length, hidden=(24, 18), dueling=dueling
    )
    torch.manual_seed(0)
    theirs = nets.build(spec, EnvSpaces((4,), "float32", ACTIONS))
    x = torch.randn(BATCH, 4)
    wanted = theirs(x)
    deltas = torch.randn(BATCH, ACTIONS)
    wanted.backward(deltas)

    named = dict(theirs.named_parameters())
    ours: Network = network(
        as_layers({k: p.detach().numpy() for k, p in named.items()}, dueling=dueling), path
    )
    room = ours.room(BATCH)
    room.inputs[:, :BATCH] = x.numpy().T
    q, dq = np.zeros((2, ACTIONS, room.lanes), np.float32)
    dq[:, :BATCH] = deltas.numpy().T
    outputs = ours.forward(room)
    if dueling:
        losses.dueling_values(outputs, q)
        called(losses.dueling_deltas)(dq, room.deltas)
    else:
        q[:] = outputs
        room.deltas[:] = dq
    ours.backward(room)

    np.testing.assert_allclose(q[:, :BATCH].T, wanted.detach().numpy(), rtol=1e-4, atol=1e-6)
    grads = {name: p.grad.numpy() for name, p in named.items() if p.grad is not None}
    expected = as_layers(grads, dueling=dueling)
    for (weight, bias), layer in zip(ours.layers(ours.grads), expected, strict=True):
        np.testing.assert_allclose(weight, layer.weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bias, layer.bias, rtol=1e-4, atol=1e-5)
