"""Keys that exist may never change: golden_keys.json, written anew only by REGOLD=1."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from raylottery.spec import derive_seed, fingerprint, lineages, parse_sweep
from tests.unit.spec.samples import AGENT, STUDY, altered


GOLDEN = Path(__file__).with_name("golden_keys.json")
SHIPPED = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))
TEXTS = {
    "study": STUDY,
    "fine-tune": altered(
        ("[init, 1ep]", "[init, 5%]"),
        ("{weights: init}", "{weights: final, clock: final, retrain: 2.5ep}"),
        ("  rewind.weights: [init, 5%]\n", "  prune.fraction: [0.1, 0.5]\n"),
    ),
    "sgd": altered(
        ("optimizer: adam", "optimizer: sgd\n  momentum: 0.9\n  weight_decay: 1e-4"),
        ("[global, layerwise]", "[layerwise]\n  prune.output: [half, full]"),
        ("score: magnitude", "score: random"),
        (
            "[random-ticket]",
            "[reinit, permuted-weights, permuted-mask, permuted-both, random-global]",
        ),
        ("rounds: 3}", "rounds: 2, biases: true}"),
        ("mlp-300-100", "residual-mlp-100-100"),
    ),
    "only": altered(
        ("[global, layerwise]", "[global]\n  prune.only: [['2', '0'], ['0.*']]"),
        ("{weights: init}", "{weights: final, retrain: 0it}"),
        ("[init, 1ep]", "[init, final]\n  rewind.clock: [final]"),
        ("retries: 3", "stop: {rule: patience, patience: 3, least: 0.01}\ncheckpoint: 5ep"),
        ("rounds: 3}", "rounds: 2, exclude: ['4', '4.*']}"),
        ("mlp-300-100", "cnn-8-16"),
        ("mnist1d", "cifar-like\n  examples: 200"),
    ),
    "controls": altered(
        (
            "[random-ticket]",
            "[small-dense, sign-constant, sign-kept-reinit, random-pruned, erk-random,\n"
            "  {kind: permuted-both, at: [0.5], draws: 2}, {kind: permuted-both, lineage: own}]",
        ),
        ("{weights: init}", "{weights: final, retrain: 2ep}"),
        ("[init, 1ep]", "[init, final]\n  rewind.clock: [final]"),
    ),
    "scores": altered(
        ("score: magnitude", "score: snip"),
        ("[global, layerwise]", "[global]\n  prune.score: [synflow, magnitude-increase]"),
        ("retries: 3", "eval: {supermask: true}"),
    ),
    "searching": altered(
        ("[random-ticket]", "[{kind: permuted-mask, lineage: own}, permuted-mask]"),
        ("retries: 3", "stop: {rule: patience}"),
    ),
    "agent": AGENT,
    "rainbow": altered(
        (
            "lr: 0.001",
            "lr: 0.001\n  lr_end: 0.1\n  env_args: {gravity: 9.8}\n  normalise: true\n"
            "  dueling: true\n  priority: 0.5\n  n_step: 3\n  atoms: 51\n  runners: 1",
        ),
        ("[64, 64]", "null"),
        ("{weights: init}", "{weights: 5%, clock: 3sync}"),
        (
            "{rule: solved, threshold: 475}",
            "{rule: mask-distance, evaluate: at-stop, length_power: 0.5}",
        ),
        ("reset.replay: [empty, prefilled]", "reset.replay: [empty, kept]"),
        ("{optimizer: fresh}", "{exploration: start, normaliser: kept, env_seed: same}"),
        text=AGENT,
    ),
    "compiled agent": altered(
        ("env: CartPole-v1", "engine: compiled\n  env: CartPole-v1"), text=AGENT
    ),
    **{f"sweeps/{path.name}": path.read_text(encoding="utf-8") for path in SHIPPED},
}


def named(text: str) -> dict:
    """Arms, lineages, trunks and rounds of a sweep by what they are for people."""
    lines = lineages(parse_sweep(text))
    return {
        "arms": {line.arm.label: line.arm.id for line in lines},
        "lineages": {f"{line.arm.label}, seed {line.seed}": line.id for line in lines},
        "trunks": {f"seed {line.seed}": line.rounds[0].key for line in lines},
        "last rounds": {
            f"{line.arm.label}, seed {line.seed}, {round.control}": round.key
            for line in lines
            for round in line.rounds
            if round.index == line.rounds[-1].index
        },
        "all rounds": fingerprint([round.key for line in lines for round in line.rounds]),
    }


def seeds() -> dict:
    return {
        "weights 0": derive_seed("weights", 0),
        "data 0 1 0": derive_seed("data", 0, 1, 0),
        "data 0 1 1": derive_seed("data", 0, 1, 1),
    }


def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _regolden():
    if os.environ.get("REGOLD") == "1":
        found = {**{name: named(text) for name, text in TEXTS.items()}, "seeds": seeds()}
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", TEXTS)
def test_the_keys_of_a_sweep_are_those_it_always_had(name):
    assert name in golden(), f"{name} has no golden keys yet: run with REGOLD=1"
    assert named(TEXTS[name]) == golden()[name]


def test_the_derived_seeds_are_those_they_always_were():
    assert seeds() == golden()["seeds"]


def test_no_golden_sweep_is_gone():
    assert set(golden()) == {*TEXTS, "seeds"}
