"""The seam between a lineage and whatever trains it.

A lineage hands its trainer a start and gets an outcome. A start is all that a training may depend
on besides the trainer's own specification: equal starts give equal outcomes, whatever else is
trained beside them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from raylottery.pruning.masks import Masks
from raylottery.sizes.prunable import Prunable
from raylottery.spec import ClassifierTrainer, DQNTrainer, Sweep


Weights = Mapping[str, Tensor]
"""A state dict: parameters and buffers by name."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a round starts from."""

    weights: Weights
    masks: Masks
    unmasked: Weights
    """The weights before the mask was laid on them."""


@dataclass(frozen=True, kw_only=True)
class Previous:
    """What the round before ended with."""

    weights: Weights
    carried: Weights
    """What the trainer asked to be kept for the round after, by names of its own."""


@dataclass(frozen=True, kw_only=True)
class Aside:
    """Where a training that is under way may be put aside, and found again after a kill."""

    load: Callable[[], tuple[Mapping[str, Weights], Mapping[str, str]] | None]
    """What was put aside last, if it is there and whole: tensors in sections, and texts."""
    save: Callable[[Mapping[str, Weights], Mapping[str, str]], None]


@dataclass(frozen=True, kw_only=True)
class Start:
    """A ticket and the stretch of the schedule it is to be trained over."""

    ticket: Ticket
    data_seed: int
    """Fixes the order of the data; equal in all arms and controls of a round, which pairs them."""
    trunk_seed: int
    """The data seed of the dense round."""
    clock: int
    """The schedule step the training starts at."""
    end: int
    """The schedule step it ends at: `end - clock` updates are made."""
    length: int
    """Steps of the whole schedule, which may be shorter than in the dense round."""
    previous: Previous | None
    """None in the dense round."""
    searching: bool
    """Whether the next ticket is drawn from this one, so that a stop rule may end the search."""
    next_masks: Callable[[Weights], Masks] | None
    """The masks that pruning some weights now would give, where a stop rule goes by them."""
    keep: tuple[int, ...] = ()
    """Schedule steps whose weights are wanted as snapshots."""
    aside: Aside | None = None
    """None where a training that is cut off begins anew."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One measured value on the way."""

    step: int
    split: str
    metric: str
    value: float
    env_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a round is worth; the columns of the same names in `rounds.parquet`."""

    metric: str
    score: float
    score_at_stop: float
    score_best: float
    score_late: float
    score_area: float
    train_score: float
    loss: float
    steps: int
    env_steps: int | None = None
    supermask_score: float | None = None
    stopped_by: str = "length"
    stop_step: int | None = None
    min_loss_step: int | None = None
    """Where the validation loss was lowest, for a trainer that has one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained ticket."""

    weights: Weights
    scores: Scores
    curve: Sequence[CurvePoint]
    revived: int
    """Pruned entries found non-zero, at any evaluation or at the end."""
    seconds: float
    """Of training and evaluating it."""
    snapshots: Mapping[int, Weights] = field(default_factory=dict)
    stopped: Weights | None = None
    """The weights at which a stop rule ended the search, if one did."""
    carried: Weights = field(default_factory=dict)
    """What the round after may find besides its ticket."""
    digests: Mapping[int, str] = field(default_factory=dict)
    """Where snapshots were wanted: a hash of all weights at each evaluation step, by which a later
    training can prove that it repeats this one bit for bit."""


def digest(weights: Weights) -> str:
    """A hash of every parameter and buffer, name by name."""
    total = hashlib.sha256()
    for name, tensor in weights.items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


_SEEDING = threading.Lock()


@contextmanager
def seeded(seed: int | None = None) -> Generator[None]:
    """Torch's global generator for one thread at a time, begun with a seed where one is given; it
    then goes on as it was."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield


class Trainer(Protocol):
    """Trains tickets of one specification on one device."""

    threads: bool
    """Whether several of its kind may train side by side in one process, a thread and an object
    each."""
    device: str
    """Where it trains, for the record."""
    spec: ClassifierTrainer | DQNTrainer
    """What it trains."""

    def __init__(self, study: Sweep, device: torch.device): ...

    def prunable(self, *, biases: bool, exclude: Sequence[str] = ()) -> Prunable:
        """The parameters that may be pruned, in layer order; UsageError for idle patterns."""
        ...

    def positions(self) -> Mapping[str, int]:
        """How often a layer's weights are used for one input, as at each pixel of its output."""
        ...

    def total_params(self) -> int:
        """Parameters of the network, prunable or not."""
        ...

    def initial(self, seed: int) -> Weights:
        """The weights a seed begins with."""
        ...

    def train(self, start: Start) -> Outcome:
        """Train a start to its end."""
        ...

    def close(self) -> None:
        """Let go of whatever it holds; if it is used again, it takes hold anew."""
        ...
