"""The plan of a story: a number gives the sweep, where it is trained, and what goes wrong when.

Only the plan is fixed by the number. How the processes of a story interleave is the machine's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Literal


Place = Literal["inline", "ray", "nodes"]
StoreKind = Literal["folder", "tmpfs", "s3"]

KILLS = {"kill", "terminate", "worker", "node", "everything"}
"""End processes in the middle of whatever they do."""
DAMAGE = {"record", "ticket", "curve", "layers", "snapshot", "table", "sweep file"}
"""Cut short, emptied or altered between two runs."""
OUTAGES = {"refuse", "full", "s3 errors", "s3 slow"}
"""The store does not do its part for a while."""

KINDS: dict[Place, tuple[str, ...]] = {
    "inline": (
        "kill", "record", "refuse", "terminate", "ticket", "full", "interrupt", "snapshot",
        "s3 errors", "lease", "curve", "clock", "two drivers", "layers", "s3 slow", "table",
        "sweep file",
    ),
    "ray": (
        "worker", "kill", "everything", "terminate", "refuse", "two drivers", "interrupt",
        "ticket", "s3 errors", "lease", "record",
    ),
    "nodes": ("node", "worker", "everything", "kill", "two drivers"),
}  # fmt: skip
"""What may go wrong where; of the first disturbance each has its turn."""

CLASSIFIER = """
name: story
trainer:
  {kind: classifier, dataset: mnist1d, model: mlp-12, length: 8ep, batch_size: 100, lr: 0.01}
prune: {fraction: 0.5, rounds: 2}
rewind: {weights: 10it}
seeds: [0, 1]
axes:
  prune.scope: [global, layerwise]
controls: [random-ticket]
"""
AGENTS = """
name: story
trainer: {kind: dqn, env: CartPole-v1, hidden: [16], length: 800ts, learning_starts: 200}
prune: {fraction: 0.3, rounds: 2}
seeds: [0]
axes:
  prune.scope: [global, layerwise]
"""
COMPILED = """
name: story
trainer:
  {kind: dqn, engine: compiled, env: CartPole-v1, hidden: [16], length: 20000ts,
   learning_starts: 200}
prune: {fraction: 0.3, rounds: 2}
rewind: {weights: 100it}
seeds: [0, 1, 2]
axes:
  prune.scope: [global, layerwise]
"""
SWEEPS = {"classifier": CLASSIFIER, "agents": AGENTS, "compiled": COMPILED}
ROUNDS = {"classifier": 18, "agents": 5, "compiled": 15}
"""Distinct rounds of each."""
FIRST_COMPILED = 100_000
"""Stories from this number on are of the compiled engine, which trains lineages side by side."""


@dataclass(frozen=True)
class Disturbance:
    """Something that goes wrong, `wait_s` after so many rounds were committed in all."""

    kind: str
    after: int
    wait_s: float
    chance: float
    """Whatever else it leaves open, as a number between 0 and 1."""


@dataclass(frozen=True)
class Story:
    """What is trained, where, and what goes wrong."""

    seed: int
    place: Place
    workers: int
    trainer: Literal["classifier", "agents", "compiled"]
    checkpoint: bool
    store: StoreKind
    disturbances: tuple[Disturbance, ...]
    threads: int = 1
    """On which each trial trains."""
    cohort: int | None = None
    """Lineages of a trial, where that is not left to be found."""

    @classmethod
    def of(cls, seed: int) -> Story:
        rng = random.Random(f"story {seed}")
        places: tuple[Place, ...] = ("inline", "inline", "ray", "nodes")
        place = rng.choice(places)
        first = KINDS[place][seed // len(places) % len(KINDS[place])]
        more = rng.choices(KINDS[place], k=rng.choice((0, 1, 1, 2)))
        kinds = [first, *(kind for kind in more if agree(first, kind))]
        s3 = any(kind.startswith("s3") for kind in kinds)
        on_a_folder = {"refuse", "full"} & {*kinds}
        if s3 or (not on_a_folder and rng.random() < 0.1):
            store: StoreKind = "s3"
        else:
            store = "tmpfs" if "full" in kinds and rng.random() < 0.5 else "folder"
        agents = place != "inline" and {*kinds} <= KILLS and rng.random() < 0.3
        trainer = "agents" if agents else "classifier"
        if seed >= FIRST_COMPILED:
            agents, trainer = True, "compiled"
        moments = sorted(rng.sample(range(ROUNDS[trainer] - 1), len(kinds)))
        story = cls(
            seed=seed,
            place=place,
            workers=1 if place == "inline" else rng.choice((1, 2, 2)),
            trainer=trainer,
            checkpoint=not agents and rng.random() < 0.4,
            store=store,
            disturbances=tuple(
                Disturbance(
                    kind,
                    after or int(kind == "interrupt"),  # which just ends a Python that starts
                    round(rng.uniform(0, 0.3), 3),
                    round(rng.random(), 4),
                )
                for kind, after in zip(kinds, moments, strict=True)
            ),
        )
        if trainer != "compiled":
            return story
        # A node of a cluster has one CPU.
        threads = 1 if place == "nodes" else rng.choice((1, 2, 2))
        return replace(story, threads=threads, cohort=rng.choice((None, None, 3)))

    @property
    def sweep(self) -> str:
        text = SWEEPS[self.trainer] + ("checkpoint: 2ep\n" if self.checkpoint else "")
        if self.trainer == "compiled":
            text += f"resources: {{cpus: {self.threads}}}\n"
        return text + (f"cohort: {self.cohort}\n" if self.cohort else "")

    @property
    def abreast(self) -> int:
        """Lineages that are under way at a time."""
        return self.workers * self.threads

    @property
    def kinds(self) -> list[str]:
        return [disturbance.kind for disturbance in self.disturbances]

    def __str__(self) -> str:
        what = ", ".join(
            f"{each.kind} {each.wait_s:.2f} s after round {each.after}"
            for each in self.disturbances
        )
        where = f"{self.place}, {self.abreast} at a time, {self.trainer} on a {self.store} store"
        return f"story {self.seed}: {where}{', checkpoints' * self.checkpoint}: {what}"

    def to_json(self) -> dict:
        return asdict(self)


def agree(one: str, other: str) -> bool:
    """Whether two disturbances can happen to one store."""
    folder = {"refuse", "full"}
    return not any(a in folder and b.startswith("s3") for a, b in ((one, other), (other, one)))


def stories(first: int, inline: int, on_ray: int) -> Iterator[Story]:
    """The first so many of each sort, from a number on."""
    for seed in count(first):
        if inline <= 0 and on_ray <= 0:
            return
        story = Story.of(seed)
        if story.place == "inline" and inline > 0:
            inline -= 1
            yield story
        elif story.place != "inline" and on_ray > 0:
            on_ray -= 1
            yield story
