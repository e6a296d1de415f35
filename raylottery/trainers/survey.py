"""What is known of a study's network before anything is trained: its sizes, and how deep they go.

Networks of dense layers are counted without torch, others are built without storage, and no engine
is imported: a plan has to be quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from math import prod

from raylottery.errors import UsageError
from raylottery.sizes import dense
from raylottery.sizes.depth import kept_by_round
from raylottery.sizes.prunable import Prunable
from raylottery.spec import ClassifierTrainer, DQNTrainer, Sweep


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The sizes of a network."""

    total_params: int
    shapes: Mapping[str, tuple[int, ...]]
    """Of the prunable parameters, in layer order."""
    layers: Prunable
    """Which they are."""

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], layers: Prunable) -> Survey:
        """From the shapes of all parameters."""
        return cls(
            total_params=sum(map(prod, shapes.values())),
            shapes={name: shapes[name] for name in layers.names},
            layers=layers,
        )

    @property
    def prunable(self) -> dict[str, int]:
        """Entries of each prunable parameter."""
        return {name: prod(shape) for name, shape in self.shapes.items()}


def survey(study: Sweep) -> Survey:
    """The sizes of a study's network; UsageError if it, or its environment, cannot be made."""
    how = study.prune
    net = plain(study.trainer)
    if net is not None:
        return Survey.of(net.shapes, net.prunable(biases=how.biases, exclude=how.exclude))
    from raylottery.trainers.skeletons import described  # loads torch

    return Survey.of(*described(study.trainer, biases=how.biases, exclude=how.exclude))


def plain(spec: ClassifierTrainer | DQNTrainer) -> dense.Dense | None:
    """The network of a trainer if it has dense layers alone."""
    if isinstance(spec, ClassifierTrainer):
        return dense.classifier(spec)
    if spec.model != "mlp":
        return None
    from raylottery.trainers.dqn import envs

    space = envs.spaces(spec)
    return dense.agent(spec, prod(space.shape), space.actions)


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
