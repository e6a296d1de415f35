"""What to run: sweep files, their arms, lineages and rounds, and the keys of these."""

from __future__ import annotations

from raylottery.spec.classifier import MODELS, ClassifierTrainer, parse_cnn, parse_mlp
from raylottery.spec.controls import CONTROLS, Control, Sources
from raylottery.spec.datasets import DATASETS, DataSize
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.expand import Arm, Lineage, expand, lineages
from raylottery.spec.extent import Extent
from raylottery.spec.file import dump_sweep, parse_sweep, read_sweep
from raylottery.spec.fingerprint import Frozen, canonical, determinants, fingerprint
from raylottery.spec.quantity import Duration, Memory
from raylottery.spec.rounds import Round, lineage_rounds
from raylottery.spec.sections import STOP_RULES, Eval, Prune, Reset, Resources, Rewind, Stop
from raylottery.spec.seeds import derive_seed
from raylottery.spec.sweep import Sweep
from raylottery.spec.trainer import Trainer


__all__ = [
    "Sweep",
    "Prune",
    "Rewind",
    "Eval",
    "Stop",
    "STOP_RULES",
    "Reset",
    "Resources",
    "Trainer",
    "ClassifierTrainer",
    "DQNTrainer",
    "DATASETS",
    "DataSize",
    "MODELS",
    "parse_cnn",
    "parse_mlp",
    "Extent",
    "Duration",
    "Memory",
    "read_sweep",
    "parse_sweep",
    "dump_sweep",
    "Arm",
    "Lineage",
    "Round",
    "expand",
    "lineages",
    "lineage_rounds",
    "CONTROLS",
    "Control",
    "Sources",
    "Frozen",
    "canonical",
    "determinants",
    "fingerprint",
    "derive_seed",
]
