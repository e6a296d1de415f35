"""Sweep files that the tests of specs read, whole or altered: a classifier's and an agent's."""

from __future__ import annotations

import pytest

from raylottery.errors import SpecError
from raylottery.spec import DQNTrainer, Sweep, parse_sweep


STUDY = """\
name: scope-and-rewind
trainer:
  kind: classifier
  dataset: mnist1d
  model: mlp-300-100
  length: 15ep
  batch_size: 100
  optimizer: adam
  lr: 0.002
prune: {score: magnitude, scope: global, fraction: 0.2, rounds: 3}
rewind: {weights: init}
seeds: [0, 1]
axes:
  prune.scope: [global, layerwise]
  rewind.weights: [init, 1ep]
controls: [random-ticket]
resources: {cpus: 1, gpus: 0}
retries: 3
"""


AGENT = """\
name: solved-and-prefilled
trainer:
  kind: dqn
  env: CartPole-v1
  hidden: [64, 64]
  length: 50000ts
  learning_starts: 1000
  rollout: 8
  updates: 4
  batch_size: 64
  lr: 0.001
  target_every: 500ts
prune: {scope: global, fraction: 0.2, rounds: 3}
rewind: {weights: init}
eval: {every: 5%, episodes: 3, final: 10}
stop: {rule: solved, threshold: 475}
reset: {optimizer: fresh}
seeds: [0, 1]
axes:
  prune.scope: [global, layerwise]
  reset.replay: [empty, prefilled]
controls: [random-ticket]
"""


def altered(*pairs: tuple[str, str], text: str = STUDY) -> str:
    """A sweep file with each first text replaced by the second."""
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def study(*pairs: tuple[str, str], sets: tuple[str, ...] = ()) -> Sweep:
    """The sweep in STUDY, altered."""
    return parse_sweep(altered(*pairs), "study.yaml", sets)


def alone(*sets: str) -> Sweep:
    """The sweep in STUDY without axes and controls, with overrides."""
    return parse_sweep(STUDY, "study.yaml", ("axes={}", "controls=[]", *sets))


def agent(*sets: str) -> Sweep:
    """The sweep in AGENT without axes, controls and what ends a search, with overrides."""
    plain = ("axes={}", "controls=[]", "stop={}")
    return parse_sweep(AGENT, "agent.yaml", (*plain, *sets))


def dqn(*sets: str) -> DQNTrainer:
    """The trainer in AGENT, with overrides."""
    trainer = agent(*sets).trainer
    assert isinstance(trainer, DQNTrainer)
    return trainer


def refusal(text: str, sets: tuple[str, ...] = ()) -> list[str]:
    """The lines with which a sweep file is refused."""
    with pytest.raises(SpecError) as caught:
        parse_sweep(text, "study.yaml", sets)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()
