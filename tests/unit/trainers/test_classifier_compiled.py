"""The compiled classifier learns what torch's does, with masks that hold to the bit."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raylottery.errors import TrainingError
from raylottery.kernel.plan import DENSE, MASK, PATH, SPARSE
from raylottery.pruning import Masks, apply_mask
from raylottery.spec import Stop, Sweep, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Outcome, Start, Ticket
from raylottery.trainers.classifier import loop
from raylottery.trainers.classifier.compiled import CompiledClassifier, learner
from raylottery.trainers.classifier.rounds import SoloClassifier
from tests.unit.trainers.test_progress import Cut, Shelf, same


LENGTH = 210
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.05},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    "adam": {"weight_decay": 0.001, "decay_all": False},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "label_smoothing": 0.1,
              "schedule": "cosine", "warmup": "20it"},
}  # fmt: skip
MODELS = ("mlp-48-24", "residual-mlp-32-32-32")
DENSITIES = {1.0: DENSE, 0.9: DENSE, 0.2: SPARSE}
"""And the path that most layers take."""


def study(engine: str = "compiled", stop: Stop | None = None, **changes: Any) -> Sweep:
    plain = {"dataset": "mnist1d", "model": MODELS[0], "length": f"{LENGTH}it"}
    fields = plain | {"batch_size": 100, "lr": 0.002} | changes
    text = ", ".join(f"{name}: {value}" for name, value in fields.items())
    sweep = parse_sweep(
        f"name: s\ntrainer: {{kind: classifier, engine: {engine}, {text}}}\n".replace(
            "True", "true").replace("False", "false")
        + "prune: {fraction: 0.5, rounds: 1}\nseeds: [0]\neval: {every: 10it}\ncheckpoint: 25it\n"
    )  # fmt: skip
    return sweep if stop is None else sweep.model_copy(update={"stop": stop})


def images(**changes: Any) -> Sweep:
    few: dict[str, Any] = {"dataset": "cifar-like", "examples": 200, "batch_size": 30}
    few |= {"model": "mlp-20"} | changes
    return study(**few)


def trainer_of(sweep: Sweep) -> SoloClassifier:
    trainer = make_trainer(sweep, gpu=False)
    assert isinstance(trainer, SoloClassifier)
    trainer.make_ready()
    return trainer


def compiled(sweep: Sweep) -> CompiledClassifier:
    trainer = trainer_of(sweep)
    assert isinstance(trainer, CompiledClassifier)
    return trainer


def start(
    trainer: SoloClassifier,
    density: float = 1.0,
    *,
    seed: int = 0,
    biases: bool = False,
    **changes,
) -> Start:
    """A random ticket of a density, with the whole schedule before it."""
    weights = trainer.initial(seed)
    names = trainer.prunable(biases=biases).names
    generator = torch.Generator().manual_seed(0)
    masks = Masks({n: torch.rand(weights[n].shape, generator=generator) < density for n in names})
    ticket = Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)
    whole = Start(
        ticket=ticket, data_seed=1, trunk_seed=1, clock=0, end=LENGTH, length=LENGTH,
        previous=None, searching=True, next_masks=None,
    )  # fmt: skip
    return replace(whole, **changes)


def flat(weights) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in weights.values()])


# It is what torch computes


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", MODELS)
def test_updates_go_where_torchs_go(model, rule, density):
    """By how far the weights are apart, in comparison with how far they went."""
    fields = {"model": model, **RULES[rule]}
    theirs, ours = (trainer_of(study(engine, **fields)) for engine in ("torch", "compiled"))
    begun = start(theirs, density)
    rivals = [theirs.learner(begun), ours.learner(begun)]
    assert isinstance(rivals[1], learner.Learner)
    paths = rivals[1].network.packed.plan[:-1, PATH]
    assert (paths == DENSITIES[density]).all(), "or the path is not shown"
    at = 0
    for goal, apart in ((1, 1e-5), (10, 1e-5), (200, 1e-2)):
        losses = []
        for rival in rivals:
            rival.advance(at, goal, auditing=True)
            losses.append(rival.mean_loss())
        at = goal
        expected, found = (flat(rival.weights()) for rival in rivals)
        moved = (expected - flat(begun.ticket.weights)).norm()
        assert moved > 0
        assert (found - expected).norm() / moved < apart
        assert losses[1] == (pytest.approx(losses[0][0], rel=apart), losses[0][1])
        for split in ("train", "valid", "test"):
            loss, accuracy = rivals[0].measure(split)
            assert rivals[1].measure(split) == (
                pytest.approx(loss, rel=apart),
                pytest.approx(accuracy, abs=0 if goal < 200 else 0.01),
            )
    assert [rival.revived for rival in rivals] == [0, 0]


@pytest.mark.parametrize("normalise", ["dataset", "unit", "none"])
def test_batches_are_those_of_torch_to_the_bit(normalise):
    """Pixels of three channels, in an order that two epochs have each for itself."""
    ours, theirs = (images(engine=e, normalise=normalise) for e in ("compiled", "torch"))
    trainer, other = compiled(ours), trainer_of(theirs)
    begun = start(trainer)
    made = trainer.learner(begun)
    batches = loop.Batches(other.dataset, other.spec, begun.data_seed)
    inputs = made.desk.acts.reshape(-1, made.desk.outputs.shape[1])[:3072, :30]
    for step in range(2 * batches.order.per_epoch):
        made.advance(step, step + 1, auditing=False)
        x, y = batches.at(step)
        np.testing.assert_array_equal(inputs.T, x.flatten(1).numpy())
        np.testing.assert_array_equal(made.desk.labels, y.numpy())


def test_what_is_done_at_once_is_what_is_done_step_by_step():
    trainer = compiled(study())
    one, many = (trainer.learner(start(trainer, 0.5)) for _ in range(2))
    one.advance(0, 100, auditing=False)
    for step in range(100):
        many.advance(step, step + 1, auditing=True)
    assert torch.equal(flat(one.weights()), flat(many.weights()))
    assert one.mean_loss() == many.mean_loss()


@pytest.mark.parametrize("model", ["mlp-100-50", "residual-mlp-50-50"])
@pytest.mark.parametrize("density", [1.0, 0.2])
def test_both_engines_learn_equally_well(density, model):
    """Over three seeds, where their floats have long gone ways of their own."""
    means = []
    for engine in ("torch", "compiled"):
        trainer = trainer_of(study(engine, model=model, length="700it", lr=0.005))
        starts = [
            start(trainer, density, seed=seed, data_seed=seed, end=700, length=700)
            for seed in range(3)
        ]
        scores = [trainer.train(begun).scores.score for begun in starts]
        means.append(np.mean(scores))
    assert means[0] > 0.4, "or nothing was learnt"
    assert means[1] == pytest.approx(means[0], abs=0.04)


# Masks


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("density", [0.9, 0.2, 0.02])
def test_what_is_pruned_is_plus_zero_and_the_rest_is_trained(density, rule):
    trainer = compiled(study(**RULES[rule]))
    begun = start(trainer, density, biases=True)
    outcome = trainer.train(begun)
    assert outcome.revived == 0
    for name, mask in begun.ticket.masks.items():
        pruned = outcome.weights[name][~mask]
        assert not pruned.view(torch.int32).any(), f"{name}: +0.0 has no bits"
        if density > 0.1:
            kept = outcome.weights[name][mask]
            assert not torch.equal(kept, begun.ticket.weights[name][mask])


def test_a_weight_that_comes_back_is_counted():
    """A mask that is lost on the way: gradients then reach what is pruned."""
    trainer = compiled(study())
    made = trainer.learner(start(trainer, 0.9))
    made.advance(0, 3, auditing=True)
    assert made.revived == 0
    made.network.packed.plan[:, MASK] = -1
    made.advance(3, 4, auditing=False)
    assert made.revived == 0, "nobody looked"
    made.advance(4, 5, auditing=True)
    assert made.revived > 100


# What a round depends on


def same_bits(one: Outcome, other: Outcome) -> None:
    same(replace(one, seconds=0.0), replace(other, seconds=0.0))


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_equal_starts_have_equal_outcomes_whatever_was_trained_before(density):
    trainer, fresh = (compiled(study(momentum=0.9, optimizer="sgd")) for _ in range(2))
    begun = start(trainer, density, keep=(0, 70, LENGTH))
    first = trainer.train(begun)
    trainer.train(start(trainer, 0.5, data_seed=3))
    torch.manual_seed(4)
    for again in (trainer, fresh):
        second = again.train(start(again, density, keep=(0, 70, LENGTH)))
        same_bits(first, second)
    assert len(first.digests) == LENGTH // 10
    assert list(first.snapshots) == [0, 70, LENGTH]


def test_neighbours_on_other_threads_change_nothing():
    densities = (1.0, 0.5, 0.1, 0.05)
    sweep = study(model="mlp-100-50")
    alone = [
        trainer.train(start(trainer, density))
        for density in densities
        for trainer in [compiled(sweep)]
    ]
    together: dict[float, Outcome] = {}
    gate = threading.Barrier(len(densities))

    def train(density: float) -> None:
        trainer = compiled(sweep)
        gate.wait()
        together[density] = trainer.train(start(trainer, density))

    threads = [threading.Thread(target=train, args=(density,)) for density in densities]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for density, expected in zip(densities, alone, strict=True):
        same_bits(together[density], expected)


def test_first_weights_are_those_of_the_other_engine_on_every_thread():
    expected = make_trainer(study("torch"), gpu=False).initial(7)
    found = []
    gate = threading.Barrier(4)

    def draw() -> None:
        trainer = make_trainer(study(), gpu=False)
        gate.wait()
        for _ in range(10):
            trainer.prunable(biases=False)
            trainer.positions()
            found.append(trainer.initial(7))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    for weights in found:
        assert list(weights) == list(expected)
        assert torch.equal(flat(weights), flat(expected))


STOPS = {
    "length": Stop(),
    "plateau": Stop(rule="plateau", patience=2, least=0.9),
    "patience": Stop(rule="patience", patience=1, least=9.0),
    "solved": Stop(rule="solved", threshold=0.0, hold=9, evaluate="at-stop"),
    "mask-distance": Stop(rule="mask-distance", within=0.9, window=2),
}


@pytest.mark.parametrize("rule", STOPS)
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_round_that_was_cut_off_ends_as_if_it_never_was(monkeypatch, rule, optimizer):
    sweep = study(stop=STOPS[rule], **RULES[optimizer])

    def next_masks(weights):
        return Masks({name: weights[name] > 0 for name in ("0.weight", "2.weight", "4.weight")})

    def begin(trainer: SoloClassifier, shelf: Shelf) -> Start:
        return start(trainer, 0.3, keep=(0, 33, 120), aside=shelf.aside, next_masks=next_masks)

    whole = (trainer := compiled(sweep)).train(begin(trainer, Shelf()))
    assert (whole.stopped is None) == (rule == "length")
    last = whole.scores.steps

    made = []
    real = learner.Learner.advance

    def advance(self, step, goal, *, auditing):
        if limit is not None and goal > limit:
            raise Cut
        made.append(goal - step)
        real(self, step, goal, auditing=auditing)

    monkeypatch.setattr(learner.Learner, "advance", advance)
    for limit in (35, 88, last - 1):
        cut, shelf = limit, Shelf()
        with pytest.raises(Cut):
            (trainer := compiled(sweep)).train(begin(trainer, shelf))
        limit = None
        made.clear()
        outcome = (trainer := compiled(sweep)).train(begin(trainer, shelf))
        same(outcome, whole)
        assert sum(made) < last - (cut // 25 - 1) * 25, "it began anew"


# What a round tells


@pytest.mark.parametrize("density", [1.0, 0.2])
def test_a_ticket_with_nothing_left_to_train_is_measured_as_it_is(density):
    theirs, ours = (trainer_of(study(engine)) for engine in ("torch", "compiled"))
    begun = start(theirs, density, clock=LENGTH)
    expected, found = theirs.train(begun), ours.train(begun)
    assert torch.equal(flat(found.weights), flat(begun.ticket.weights))
    assert found.scores == replace(
        expected.scores, loss=pytest.approx(expected.scores.loss, rel=1e-6)
    )
    assert [(p.step, p.split, p.metric) for p in found.curve] == [
        (p.step, p.split, p.metric) for p in expected.curve
    ]


def test_score_at_stop_belongs_to_the_lowest_validation_loss():
    """With a learning rate that overshoots, the last weights are not the best ones."""
    trainer = compiled(study(lr=0.3, model="mlp-16"))
    outcome = trainer.train(start(trainer, end=50))
    losses = {p.step: p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "loss")}
    best = min(losses, key=lambda step: losses[step])
    until_best = trainer.train(start(trainer, end=best))
    assert best < 50, "or nothing is shown here"
    assert outcome.scores.min_loss_step == best
    assert outcome.scores.score_at_stop == until_best.scores.score


def test_a_clock_in_the_middle_goes_on_as_the_whole_training_did():
    """To the bit, where the optimizer keeps nothing; the rate is that of the schedule."""
    trainer = compiled(study(optimizer="sgd", schedule="cosine", warmup="3it", lr=0.1))
    begun = start(trainer, 0.4)
    whole = trainer.train(replace(begun, keep=(55,)))
    ticket = replace(begun.ticket, weights=whole.snapshots[55])
    rest = trainer.train(replace(begun, ticket=ticket, clock=55))
    assert torch.equal(flat(rest.weights), flat(whole.weights))
    assert not torch.equal(flat(rest.weights), flat(ticket.weights))


def test_a_loss_that_is_no_number_ends_the_training_with_the_mend():
    trainer = compiled(study(optimizer="sgd", lr=1e20))
    with pytest.raises(TrainingError, match=r"between steps 0 and 10: lower trainer\.lr"):
        trainer.train(start(trainer))


def test_data_are_laid_out_once_for_all_that_use_them():
    sweeps = [images(), images(lr=0.5), images(normalise="unit")]
    one, two, three = (compiled(sweep).parts["train"].x for sweep in sweeps)
    assert one is two
    assert one is not three
