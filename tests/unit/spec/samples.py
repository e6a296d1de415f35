"""A sweep file that the tests of specs read, whole or altered."""

from __future__ import annotations

from raylottery.spec import Sweep, parse_sweep


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


def altered(*pairs: tuple[str, str]) -> str:
    """STUDY with each first text replaced by the second."""
    text = STUDY
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
