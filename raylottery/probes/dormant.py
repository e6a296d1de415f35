"""Hidden units that do nothing: cut off by the mask, or hardly ever active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from raylottery.errors import UsageError
from raylottery.probes.finished import FinishedRounds
from raylottery.probes.networks import PerNetwork, input_shape, network, threads
from raylottery.probes.units import Units
from raylottery.spec import ClassifierTrainer, DQNTrainer, Sweep
from raylottery.trainers.base import Weights, seeded
from raylottery.trainers.classifier import data
from raylottery.trainers.classifier.loop import CHUNK
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.episodes import Arena, acting, evaluation_seeds
from raylottery.trainers.dqn.nets import QNet


DORMANT = 0.1
"""Share of its layer's mean activation up to which a unit is dormant (Sokar et al. 2023)."""


class Activity:
    """The mean absolute activation of each hidden unit of a network."""

    def __init__(self, net: nn.Module):
        self.net = net
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    @torch.no_grad()
    def watch(self, x: Tensor) -> None:
        """Run the network on some inputs."""
        with Units(self.net, self._see):
            self.net(x)

    def _see(self, layer: str, found: Tensor, units: int) -> None:
        given = by_unit(found, units).abs()
        total = given.sum(dim=1, dtype=torch.float64)
        self.sums[layer] = self.sums[layer] + total if layer in self.sums else total
        self.counts[layer] = self.counts.get(layer, 0) + given.shape[1]

    def dormant(self) -> dict[str, Tensor]:
        """By layer, which units are dormant."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        return {name: mean <= DORMANT * mean.mean() for name, mean in means.items()}


def rows(found: FinishedRounds) -> Iterator[dict[str, Any]]:
    nets = PerNetwork(lambda study: network(study.trainer))
    twins = PerNetwork(lambda study: network(study.trainer).double())
    for finished, sections in found.each(found.tickets(found.rounds), len(found.rounds)):
        study = finished.measured
        net = nets.of(finished.study)
        net.load_state_dict(sections["trained"], strict=True)
        activity = Activity(net)
        with threads(study.trainer):
            if isinstance(study.trainer, DQNTrainer):
                in_episodes(activity, study, sections["trained"])
            else:
                on_examples(activity, study.trainer)
            dead = cut_off(twins.of(finished.study), sections["mask"], study.trainer)
        for name, dormant in activity.dormant().items():
            yield {
                **finished.control_head(),
                "layer": name,
                "units": len(dormant),
                "dead": int(dead[name].sum()),
                "dormant": int(dormant.sum()),
            }


def on_examples(activity: Activity, spec: ClassifierTrainer) -> None:
    """Watch the units on the test set."""
    dataset = data.load(spec, "cpu")
    for x in dataset.test.x.split(CHUNK):
        activity.watch(data.prepared(x, spec, dataset))


def in_episodes(activity: Activity, study: Sweep, weights: Weights) -> None:
    """Watch the units in the states of the greedy episodes that make an agent's score."""
    spec = study.trainer
    assert isinstance(spec, DQNTrainer)
    states: list[np.ndarray] = []
    with seeded(0):  # a network is made, whose first weights are drawn
        greedy = acting(spec, weights)

    def watch() -> None:
        if states:
            activity.watch(torch.from_numpy(np.stack(states)))
            states.clear()

    def act(obs: np.ndarray) -> np.ndarray:
        if len(states) >= CHUNK:
            watch()
        return greedy(obs)

    def make(spec: DQNTrainer) -> gymnasium.Env:
        return Told(envs.make(spec), states)

    with closing(Arena(spec, evaluation_seeds(study.eval.final), make=make)) as arena:
        arena.play(act)
    watch()


class Told(gymnasium.Wrapper):
    """Tells each state in which an action is taken."""

    def __init__(self, env: gymnasium.Env, states: list[np.ndarray]):
        super().__init__(env)
        self.states = states

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        obs, info = self.env.reset(seed=seed, options=options)
        self.states.append(np.array(obs))
        return obs, info

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = self.env.step(action)
        if not terminated and not truncated:
            self.states.append(np.array(obs))
        return obs, reward, terminated, truncated, info


def cut_off(
    twin: nn.Module, mask: Mapping[str, Tensor], spec: ClassifierTrainer | DQNTrainer
) -> dict[str, Tensor]:
    """By layer, which units no kept weights lead to from the inputs, or from there to the outputs.

    `twin` is the network in double precision. With positive weights where the mask keeps any, no
    biases and no activations, a unit is reached if what it gives is not zero, and reaches an
    output if that depends on it. The weights differ, so that no two paths cancel.
    """
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(path_weights(parameter, mask.get(name), chance))
    seen: dict[str, tuple[Tensor, int]] = {}
    ones = torch.ones((1, *input_shape(spec)), dtype=torch.float64)
    try:
        with Units(twin, lambda layer, h, units: seen.update({layer: (h, units)}), linear=True):
            out = outputs(twin, ones)
    except RuntimeError as error:
        raise UsageError(
            f"dormant cannot be worked out for {spec.model}, which does not take numbers of "
            f"double precision: {error}. Take another kind, such as profiles."
        ) from error
    drawn = torch.rand(out.shape, generator=chance, dtype=out.dtype)
    effects = torch.autograd.grad(
        (out * drawn).sum(),
        [h for h, _ in seen.values()],
        allow_unused=True,
        materialize_grads=True,
    )
    return {
        layer: ~(by_unit(h, units).any(dim=1) & by_unit(effect, units).any(dim=1))
        for (layer, (h, units)), effect in zip(seen.items(), effects, strict=True)
    }


def path_weights(parameter: Tensor, mask: Tensor | None, chance: torch.Generator) -> Tensor:
    """Positive numbers where a layer keeps weights, of a size that passes its input on."""
    if parameter.dim() < 2:
        return torch.zeros_like(parameter)
    kept = torch.ones_like(parameter) if mask is None else mask.to(parameter)
    drawn = 0.5 + torch.rand(parameter.shape, generator=chance, dtype=parameter.dtype)
    fan_in = kept.flatten(1).sum(dim=1).clamp(min=1)
    return kept * drawn / fan_in.reshape(-1, *(1,) * (parameter.dim() - 1))


def outputs(net: nn.Module, x: Tensor) -> Tensor:
    """What a network's last layers give: of an agent's, before a mean is taken of it."""
    return net.distribution(x) if isinstance(net, QNet) else net(x)


def by_unit(found: Tensor, units: int) -> Tensor:
    """What each unit gives, in a row of its own; `units` is their dimension."""
    return found.movedim(units, 0).flatten(1)
