"""How a round trains: one trainer per `kind` and `engine`, behind the protocol in `base`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from raylottery.spec import Sweep
    from raylottery.trainers.base import Trainer


TRAINERS = {
    ("classifier", "torch"): "raylottery.trainers.classifier.loop:Classifier",
    ("classifier", "compiled"): "raylottery.trainers.classifier.compiled:CompiledClassifier",
    ("dqn", "rllib"): "raylottery.trainers.dqn.rllib:RLlibDQN",
    ("dqn", "compiled"): "raylottery.trainers.dqn.compiled:CompiledDQN",
}


def make_trainer(study: Sweep, *, gpu: bool) -> Trainer:
    """The trainer that a study asks for, on the GPU this process was given or on the CPU."""
    import torch

    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    return trainer_class(study)(study, device)


def trainer_class(study: Sweep) -> type[Trainer]:
    """The class that a study asks for, imported with all that it stands on."""
    module, name = TRAINERS[study.trainer.kind, study.trainer.engine].split(":")
    return getattr(importlib.import_module(module), name)


def gpus() -> list[str]:
    """The GPUs torch sees on this machine."""
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
