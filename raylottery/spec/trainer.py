"""What trains a round: the `trainer:` section of a sweep file, one model per kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from raylottery.errors import did_you_mean, nearest
from raylottery.spec.classifier import ClassifierTrainer
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.problems import Problem, Problems, shown


KINDS = ("classifier", "dqn")


def _known_kind(value: Any) -> Any:
    # Before the fields: those of another kind would all be called unknown.
    if isinstance(value, Mapping):
        if "kind" not in value:
            if slip := nearest("kind", value):
                raise Problems([Problem((slip,), "no such field. Did you mean 'kind'?")])
            text = f"missing, and it has no default. (What is trained: {' or '.join(KINDS)}.)"
            raise Problems([Problem(("kind",), text)])
        if value["kind"] not in KINDS:
            text = f"no such kind: {shown(value['kind'])}. {did_you_mean(value['kind'], KINDS)}"
            raise Problems([Problem(("kind",), text)])
    return value


Trainer = Annotated[
    Annotated[ClassifierTrainer | DQNTrainer, Field(discriminator="kind")],
    BeforeValidator(_known_kind),
]
