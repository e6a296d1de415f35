"""A classifier's round that is cut off goes on from where it was put aside, to the bit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.pruning import Masks, apply_mask
from raylottery.spec import Stop, Sweep, parse_sweep
from raylottery.store.tickets import pack, unpack
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Aside, Outcome, Start, Ticket
from raylottery.trainers.classifier import progress
from raylottery.trainers.classifier.loop import Classifier, Learner


END = 12
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    "plain sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam", "decay_all": False, "weight_decay": 0.001},
}


class Cut(Exception):
    """What ends a training in the middle."""


class Shelf:
    """Where a training is put aside: as bytes, as a store keeps it."""

    def __init__(self):
        self.data: bytes | None = None
        self.loads = 0

    @property
    def aside(self) -> Aside:
        return Aside(load=self.load, save=self.save)

    def load(self):
        self.loads += 1
        return None if self.data is None else unpack(self.data)

    def save(self, sections, said) -> None:
        self.data = pack(sections, said)


def study(
    model: str = "tests.networks:normed", stop: Stop | None = None, **fields: object
) -> Sweep:
    described = {"dataset": "cifar-like", "examples": 200, "batch_size": 30, "model": model,
                 "length": f"{END}it", "lr": 0.01, "augment": "flip-crop-cutout",
                 "schedule": "cosine", "warmup": "3it"} | fields  # fmt: skip
    text = ", ".join(f"{name}: {value}" for name, value in described.items()).replace(
        "True", "true").replace("False", "false")  # fmt: skip
    sweep = parse_sweep(
        f"name: s\ntrainer: {{kind: classifier, {text}}}\ncheckpoint: 5it\n"
        "prune: {fraction: 0.5, rounds: 1}\nseeds: [0]\neval: {every: 4it}\n"
    )
    return sweep if stop is None else sweep.model_copy(update={"stop": stop})


def begun(trainer: Classifier, shelf: Shelf, **changes) -> Start:
    """A ticket at half density."""
    weights = trainer.initial(0)
    generator = torch.Generator().manual_seed(0)
    names = trainer.prunable(biases=False).names
    masks = Masks({n: torch.rand(weights[n].shape, generator=generator) < 0.5 for n in names})
    plain = Start(
        ticket=Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights),
        data_seed=1, trunk_seed=1, clock=0, end=END, length=END, previous=None,
        searching=True, next_masks=None, keep=(0, 3, 11), aside=shelf.aside,
    )  # fmt: skip
    return replace(plain, **changes)


def classifier(sweep: Sweep) -> Classifier:
    trainer = make_trainer(sweep, gpu=False)
    assert isinstance(trainer, Classifier)
    return trainer


def cut_after(patch: pytest.MonkeyPatch, updates: int) -> list[int]:
    """End any training when it has made so many updates; the list counts those that are made."""
    made: list[int] = []
    real = Learner.update

    def update(self, *batch, **options):
        if len(made) == updates:
            raise Cut
        made.append(1)
        real(self, *batch, **options)

    patch.setattr(Learner, "update", update)
    return made


def same(one: Outcome, other: Outcome) -> None:
    """In all but the seconds."""
    for found, expected in (
        (one.weights, other.weights),
        (one.stopped or {}, other.stopped or {}),
        *zip(one.snapshots.values(), other.snapshots.values(), strict=True),
    ):
        assert list(found) == list(expected)
        for name, tensor in found.items():
            assert torch.equal(tensor, expected[name]), name
    assert list(one.snapshots) == list(other.snapshots)
    assert one.scores == other.scores
    assert one.curve == other.curve
    assert one.digests == other.digests
    assert one.revived == other.revived == 0


def cut_and_gone_on(sweep: Sweep, updates: int, **changes) -> tuple[Outcome, int]:
    """What comes of a training that is cut off once, and the updates made after that."""
    shelf = Shelf()
    with pytest.MonkeyPatch.context() as patch:
        cut_after(patch, updates)
        trainer = classifier(sweep)
        with pytest.raises(Cut):
            trainer.train(begun(trainer, shelf, **changes))
    with pytest.MonkeyPatch.context() as patch:
        made = cut_after(patch, 10**6)
        fresh = classifier(sweep)
        outcome = fresh.train(begun(fresh, shelf, **changes))
    return outcome, len(made)


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
@pytest.mark.parametrize("model", ["tests.networks:normed", "tests.networks:dropping"])
@pytest.mark.parametrize("updates", [4, 5, 7, 11])
def test_a_round_that_was_cut_off_ends_as_if_it_never_was(kind, model, updates):
    sweep = study(model, None, **OPTIMIZERS[kind])
    whole = classifier(sweep)
    undisturbed = whole.train(begun(whole, Shelf()))
    outcome, made = cut_and_gone_on(sweep, updates)
    same(outcome, undisturbed)
    assert made == END - updates // 5 * 5


RULES = {
    "plateau": Stop(rule="plateau", patience=2, least=0.9),
    "patience": Stop(rule="patience", patience=1, least=9.0),
    "solved at once": Stop(rule="solved", threshold=0.0, hold=2),
    "target": Stop(rule="target", threshold=0.0, evaluate="at-stop"),
    "mask-difference": Stop(rule="mask-difference", within=0.5),
    "mask-distance": Stop(rule="mask-distance", within=0.9, window=2),
}


@pytest.mark.parametrize("rule", list(RULES))
@settings(max_examples=4, deadline=None)
@given(updates=st.integers(5, END - 1))
def test_a_search_goes_on_with_all_that_its_rule_was_told(rule, updates):
    """An epoch is six updates here, so masks are looked at before and after what is put aside."""
    sweep = study(stop=RULES[rule])
    names = classifier(sweep).prunable(biases=False).names

    def next_masks(weights):
        return Masks({name: weights[name] > 0 for name in names})

    whole = classifier(sweep)
    undisturbed = whole.train(begun(whole, Shelf(), next_masks=next_masks))
    assert undisturbed.stopped is not None
    if undisturbed.scores.steps > updates:
        outcome, _ = cut_and_gone_on(sweep, updates, next_masks=next_masks)
        same(outcome, undisturbed)


def test_the_seconds_before_the_cut_count_and_so_does_what_was_revived():
    sweep = study()
    shelf, trainer = Shelf(), classifier(sweep)
    trainer.train(begun(trainer, shelf))
    sections, said = unpack(shelf.data or b"")
    rest = json.loads(bytes(sections["rest"]["json"].tolist()))
    changed = json.dumps(rest | {"seconds": 1000.0, "revived": 7}).encode()
    shelf.save({**sections, "rest": {"json": torch.tensor([*changed], dtype=torch.uint8)}}, said)
    outcome = trainer.train(begun(trainer, shelf))
    assert outcome.seconds > 1000
    assert outcome.revived == 7


def test_without_a_checkpoint_nothing_is_put_aside():
    sweep = study().model_copy(update={"checkpoint": None})
    shelf, trainer = Shelf(), classifier(sweep)
    trainer.train(begun(trainer, shelf))
    assert shelf.data is None
    assert shelf.loads == 1, "another run may have put something aside"


@pytest.mark.parametrize("why", ["another format", "another wish"])
def test_what_cannot_be_gone_on_from_is_left_alone_and_said(monkeypatch, caplog, why):
    sweep = study()
    shelf, trainer = Shelf(), classifier(sweep)
    trainer.train(begun(trainer, shelf, keep=(0,)))
    wanted = (0,)
    if why == "another format":
        monkeypatch.setattr(progress, "FORMAT", "a later one")
    else:
        wanted = (0, 3)  # a snapshot that the first training did not keep
    made = cut_after(monkeypatch, 10**6)
    with caplog.at_level(logging.INFO, "raylottery"):
        outcome = trainer.train(begun(trainer, shelf, keep=wanted))
    assert len(made) == END
    assert "begins anew" in caplog.text
    assert set(outcome.snapshots) == set(wanted)
