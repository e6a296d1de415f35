from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from raylottery.spec import (
    ClassifierTrainer,
    DQNTrainer,
    Prune,
    Reset,
    Rewind,
    Stop,
    Sweep,
    parse_cnn,
    parse_mlp,
)
from raylottery.spec.axes import axis_fields
from raylottery.spec.classifier import MODELS
from raylottery.spec.problems import sections
from tests.unit.spec.samples import agent, alone, dqn


def trainer(**changes) -> ClassifierTrainer:
    return ClassifierTrainer.model_validate({**alone().trainer.model_dump(), **changes})


def test_every_field_has_its_help():
    parts = [part for field in Sweep.model_fields.values() for part in sections(field)]
    assert {ClassifierTrainer, DQNTrainer, Prune, Rewind, Stop, Reset} <= set(parts)
    for model in (Sweep, *parts):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith("."), f"{model.__name__}.{name}"


def test_the_defaults():
    assert Prune(rounds=1).model_dump() == {
        "score": "magnitude",
        "scope": "global",
        "fraction": 0.2,
        "rounds": 1,
        "output": "half",
        "conv": None,
        "exclude": (),
        "only": ("*",),
        "biases": False,
    }
    assert Rewind().model_dump() == {"weights": "init", "clock": None, "retrain": None}
    sweep = alone()
    assert (str(sweep.eval.every), sweep.retries) == ("5%", 3)
    assert (trainer().momentum, trainer().weight_decay, trainer().threads) == (0.0, 0.0, 1)
    assert agent().stop.rule == "length"
    assert set(agent().reset.model_dump().values()) == {
        "fresh", "empty", "again", "online", "same", "clock", "new",
    }  # fmt: skip


SHARED = [
    "prune.score", "prune.scope", "prune.fraction", "prune.output", "prune.conv",
    "prune.exclude", "prune.only", "prune.biases",
    "rewind.weights", "rewind.clock", "rewind.retrain", "eval.every", "eval.episodes",
    "eval.final", "eval.window", "eval.supermask", "stop.rule", "stop.threshold", "stop.hold",
    "stop.patience", "stop.least", "stop.within", "stop.window", "stop.evaluate",
    "stop.length_power",
    "reset.optimizer", "reset.replay", "reset.learning_starts", "reset.target",
    "reset.target_mask", "reset.exploration", "reset.lr", "reset.normaliser", "reset.env_seed",
    "reset.exploration_seed", "resources.cpus", "resources.gpus", "resources.memory",
    "resources.accelerator", "resources.custom",
]  # fmt: skip
NUISANCE = ["nuisance.noise", "nuisance.duplicates", "nuisance.scale"]
CLASSIFIERS = ["engine", "dataset", "examples", "model", "initialisation", "length", "batch_size",
               "optimizer", "lr", "momentum", "nesterov", "weight_decay", "decay_all", "schedule",
               "drops", "drop_factor", "warmup", "label_smoothing", "normalise", "augment",
               *NUISANCE, "shuffle", "shuffle_seed", "precision", "channels_last", "compile",
               "threads"]  # fmt: skip
AGENTS = ["engine", "env", "env_args", "preprocess", *NUISANCE, "normalise", "model", "hidden",
          "dueling", "length", "learning_starts", "rollout", "updates", "envs", "batch_size",
          "buffer", "priority", "priority_beta", "n_step", "gamma", "double", "atoms",
          "value_range", "loss", "lr", "lr_end", "adam_epsilon", "weight_decay", "clip",
          "target_every", "tau", "epsilon_end", "epsilon_decay", "runners", "learners",
          "threads"]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("classifier", CLASSIFIERS),
        ("dqn", AGENTS),
        (None, [*CLASSIFIERS, *(name for name in AGENTS if name not in CLASSIFIERS)]),
    ],
)
def test_what_an_axis_can_vary(kind, fields):
    """The kind is none where the trainer is itself refused; the axes are checked all the same."""
    assert axis_fields(Sweep, kind) == [*(f"trainer.{name}" for name in fields), *SHARED]


def test_specs_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        alone().prune.rounds = 4  # ty: ignore[invalid-assignment]


@pytest.mark.parametrize(
    ("model", "parsed"),
    [
        ("mlp-300-100", (False, (300, 100))),
        ("mlp-7", (False, (7,))),
        ("residual-mlp-100-100", (True, (100, 100))),
        ("residual-mlp-8-8-8", (True, (8, 8, 8))),
    ],
)
def test_models(model, parsed):
    assert parse_mlp(model) == parsed
    assert trainer(model=model).model == model


@pytest.mark.parametrize(
    ("model", "channels"),
    [("cnn-32-64-128", (32, 64, 128)), ("cnn-7", (7,)), ("cnn-9999-1", (9999, 1))],
)
def test_small_convolutional_networks_are_named_by_their_channels(model, channels):
    assert parse_cnn(model) == channels
    assert trainer(dataset="mnist", model=model).model == model
    assert parse_mlp(model) is None


@pytest.mark.parametrize(
    "model",
    ["mlp", "mlp-", "mlp-0", "mlp-03", "mlp-3.5", "mlp-300-", "MLP-3", "mlp-3\n", "mlp-100000",
     "residual-mlp-8", "residual-mlp-8-9", "residual-8-8", "conv-3",
     "cnn", "cnn-", "cnn-0", "cnn-03", "cnn-8-", "cnn-8-0", "CNN-8", "cnn-10000", "cnn-3\n",
     "residual-cnn-8-8", "torchvision:", "torchvision:Resnet-18", "package.module:",
     ":function", "a b:c", "resnet-20\n", ""],
)  # fmt: skip
def test_models_that_are_none(model):
    with pytest.raises(ValueError, match=r"no such model|cannot add its layers"):
        trainer(model=model)


@pytest.mark.parametrize("model", [*MODELS, "torchvision:resnet18", "my.package:network"])
def test_networks_of_images(model):
    assert trainer(dataset="cifar10", model=model).model == model
    assert parse_mlp(model) is None
    assert parse_cnn(model) is None


@pytest.mark.parametrize(
    ("examples", "train", "valid", "test"),
    [
        (100, 90, 10, 100),
        (999, 900, 99, 999),
        (1001, 901, 100, 1000),
        (5000, 4500, 500, 1000),
        (20_000, 18_000, 2000, 1000),
        (None, 4500, 500, 1000),
    ],
)
def test_generated_data_have_the_size_that_is_asked_for(examples, train, valid, test):
    """As many images are tested as are trained and validated on, but at most 1000."""
    found = trainer(dataset="cifar-like", examples=examples, batch_size=10).size
    assert (found.train, found.valid, found.test) == (train, valid, test)
    assert (found.shape, found.inputs) == ((3, 32, 32), 3072)


def test_the_trainer_counts_updates_without_the_rest_of_an_epoch():
    assert (trainer().total_steps, dict(trainer().units)) == (525, {"it": 1, "ep": 35})
    assert trainer(batch_size=64).units["ep"] == 54  # 3500 = 54 * 64 + 44
    assert trainer(batch_size=3500, length="3ep").total_steps == 3
    assert trainer(length="40it").total_steps == 40


def test_the_trainer_says_what_it_is():
    spec = trainer()
    assert (spec.engine, spec.metric, spec.task) == ("torch", "accuracy", "mnist1d")
    assert (dqn().engine, dqn().metric, dqn().task) == ("rllib", "return", "CartPole-v1")


def test_where_the_clock_restarts():
    assert Rewind().restart == "init"
    assert str(alone("rewind.weights=1ep").rewind.restart) == "1ep"
    assert alone("rewind={weights: final, clock: init}").rewind.restart == "init"


def test_the_schema_of_a_sweep_file_can_be_written():
    schema = Sweep.model_json_schema()
    assert schema["required"] == ["name", "trainer", "prune", "seeds"]
    kinds = schema["properties"]["trainer"]["discriminator"]["mapping"]
    assert set(kinds) == {"classifier", "dqn"}
    assert schema["$defs"]["Prune"]["properties"]["rounds"]["description"] == (
        "Pruned rounds after the dense one."
    )


def test_specs_load_none_of_the_heavy_libraries():
    code = (
        "import sys, raylottery.spec; "
        "print(*{'torch', 'ray', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
