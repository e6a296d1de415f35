"""Plays a trained agent's greedy episodes again: those that its score was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raylottery.driver.tickets import find_trained
from raylottery.errors import UsageError
from raylottery.spec import DQNTrainer
from raylottery.store import Record, Store


if TYPE_CHECKING:
    from raylottery.trainers.dqn.episodes import Episode


@dataclass(frozen=True, kw_only=True)
class Played:
    """Episodes, and the score that all of them were recorded with."""

    episodes: Sequence[Episode]
    of: int
    """Episodes that the score was made of."""
    record: Record

    @property
    def mean(self) -> float:
        return math.fsum(episode.total for episode in self.episodes) / len(self.episodes)

    @property
    def score(self) -> float:
        return self.record.result["score"]

    @property
    def whole(self) -> bool:
        """Whether the mean is one of the same episodes as the score."""
        return len(self.episodes) == self.of


def play(
    name: str,
    lineage: str,
    index: int,
    control: str,
    store: Store,
    *,
    episodes: int | None = None,
    video: Path | None = None,
) -> Played:
    """Play the first of a round's greedy episodes, or all; `video` is a file to record them in."""
    study, _, record = find_trained(name, lineage, index, control, store)
    spec = study.trainer
    if not isinstance(spec, DQNTrainer):
        raise UsageError(
            f"{name} trains a {spec.kind}, which plays no episodes. `raylottery ticket` writes "
            f"its weights"
        )
    of = study.eval.final
    count = of if episodes is None else episodes
    if not 1 <= count <= of:
        raise UsageError(
            f"--episodes {count}: the score is the mean of {of} episodes (eval.final); say 1 to "
            f"{of}"
        )
    from raylottery.store.tickets import read_ticket  # loads torch
    from raylottery.trainers.dqn.episodes import play_again
    from raylottery.trainers.dqn.video import filming

    weights = read_ticket(record, store)["trained"]
    with nullcontext() if video is None else filming(spec, video) as film:
        found = play_again(spec, weights, count, of=of, film=film)
    return Played(episodes=found, of=of, record=record)
