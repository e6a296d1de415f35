"""What is known of a study's network before anything is trained: its sizes, and how deep they go.

Networks are built without storage, and no engine is imported: a plan has to be quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from math import prod

import torch
from torch import nn

from raylottery.errors import UsageError
from raylottery.pruning.depth import kept_by_round
from raylottery.pruning.prunable import Prunable, prunable
from raylottery.spec import ClassifierTrainer, DQNTrainer, Sweep


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The sizes of a network."""

    total_params: int
    shapes: Mapping[str, tuple[int, ...]]
    """Of the prunable parameters, in layer order."""
    layers: Prunable
    """Which they are."""

    @property
    def prunable(self) -> dict[str, int]:
        """Entries of each prunable parameter."""
        return {name: prod(shape) for name, shape in self.shapes.items()}


def survey(study: Sweep) -> Survey:
    """The sizes of a study's network; UsageError if it, or its environment, cannot be made."""
    spec, how = study.trainer, study.prune
    net = skeleton(spec)
    if isinstance(spec, DQNTrainer):
        from raylottery.trainers.dqn import nets as agents

        assert isinstance(net, agents.QNet)
        layers = agents.layers(net, biases=how.biases, exclude=how.exclude)
    else:
        from raylottery.trainers.classifier.nets import refuse_unfit

        layers = prunable(net, biases=how.biases, exclude=how.exclude)
        refuse_unfit(net, spec)
    parameters = dict(net.named_parameters())
    return Survey(
        total_params=sum(parameter.numel() for parameter in parameters.values()),
        shapes={name: tuple(parameters[name].shape) for name in layers.names},
        layers=layers,
    )


def skeleton(spec: ClassifierTrainer | DQNTrainer) -> nn.Module:
    """The network that a trainer would train, of shapes alone where that can be."""
    if isinstance(spec, DQNTrainer):
        from raylottery.trainers.dqn import envs, nets

        space = envs.spaces(spec)
        with torch.device("meta"):
            return nets.build(spec, space)
    from raylottery.trainers.classifier import nets as classifiers

    return classifiers.skeleton(spec)


def refuse_too_deep(study: Sweep, survey: Survey) -> None:
    """Refuse more rounds than the network has weights for."""
    how = study.prune
    counts = list(islice(kept_by_round(how, survey.shapes, survey.layers), how.rounds + 1))
    for index, (before, after) in enumerate(pairwise(counts), start=1):
        if after in (0, before):
            most = index - 1
            mend = f"prune.rounds to at most {most}" if most else "another prune.fraction"
            raise UsageError(
                f"prune.rounds: round {index} would prune {'none' if after else 'all'} of the "
                f"{before} weights that are left by then (of {counts[0]} "
                f"prunable ones, at a fraction of {how.fraction:g} under scope {how.scope}). Set "
                f"{mend}, or take a larger network."
            )
