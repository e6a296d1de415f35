"""A classifier's engine: what the compiled one refuses, and what it means to a round's key."""

from __future__ import annotations

import pytest

from raylottery.kernel import PROTOCOL
from raylottery.spec import lineages, parse_sweep
from raylottery.spec.kernel import KERNEL_PROTOCOL
from tests.unit.spec.samples import altered, refusal


COMPILED = ("kind: classifier", "kind: classifier\n  engine: compiled")


def with_field(line: str) -> tuple[str, str]:
    return ("lr: 0.002", f"lr: 0.002\n  {line}")


IMAGES = ("dataset: mnist1d", "dataset: cifar-like\n  examples: 500")
LEAVE = "; leave it out, or say engine: torch."
DENSE = (
    "trainer.model: the compiled engine trains dense layers only; say an mlp-..., or say "
    "engine: torch."
)
CASES = {
    "convolutions": ([IMAGES, ("mlp-300-100", "conv-2")], DENSE),
    "one's own": ([("mlp-300-100", "mine:net")], DENSE),
    "torchvision's": ([("mlp-300-100", "torchvision:vit_b_16")], DENSE),
    "augmentation": (
        [IMAGES, with_field("augment: flip-crop")],
        f"trainer.augment: the compiled engine trains on the images as they are{LEAVE}",
    ),
    "precision": (
        [with_field("precision: bf16")],
        f"trainer.precision: the compiled engine computes in float32 alone{LEAVE}",
    ),
    "memory": (
        [with_field("channels_last: false")],
        f"trainer.channels_last: the compiled engine has no images in memory{LEAVE}",
    ),
    "torch.compile": (
        [with_field("compile: true")],
        f"trainer.compile: the compiled engine is compiled as it is{LEAVE}",
    ),
    "threads": (
        [with_field("threads: 2")],
        f"trainer.threads: the compiled engine trains each lineage in one thread{LEAVE}",
    ),
    "GPUs": (
        [("gpus: 0}", "gpus: 0.5}")],
        "resources.gpus: the compiled engine computes on CPUs alone; leave it out, or say "
        "trainer.engine: torch.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_compiled_engine_cannot_do_is_refused_at_its_field(case):
    changes, text = CASES[case]
    parse_sweep(altered(*changes))  # torch can
    [refused] = refusal(altered(COMPILED, *changes))
    assert refused.partition(": ")[2] == text


@pytest.mark.parametrize("model", ["mlp-300-100", "mlp-8", "lenet-300-100", "residual-mlp-20-20"])
def test_it_takes_dense_layers(model):
    assert parse_sweep(altered(COMPILED, ("mlp-300-100", model))).trainer.engine == "compiled"


def test_rounds_of_one_engine_are_none_of_the_other():
    """With the kernel's protocol, for it decides the floats; torch's keys never heard of it."""
    default, torch, ours = (
        lineages(parse_sweep(altered(*change)))[0].rounds[0]
        for change in ([], [(COMPILED[0], COMPILED[1].replace("compiled", "torch"))], [COMPILED])
    )
    assert default.key == torch.key
    assert not {"engine", "kernel"} & set(default.spec["trainer"])
    assert ours.key != torch.key
    expected = {"engine": "compiled", "kernel": KERNEL_PROTOCOL}
    assert ours.spec["trainer"] == default.spec["trainer"] | expected


def test_the_protocol_is_the_kernels():
    assert KERNEL_PROTOCOL == PROTOCOL
