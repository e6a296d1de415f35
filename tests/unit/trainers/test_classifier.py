"""The classifier: what it measures, on which part of the data."""

from __future__ import annotations

import pytest
import torch
from mnist1d.data import get_dataset_args, make_dataset

from raylottery.errors import TrainingError
from raylottery.pruning import Masks
from raylottery.spec import Stop, parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Start, Ticket, Trainer
from raylottery.trainers.classifier import data, loop, nets


def study(**changes):
    fields = {"model": "mlp-16", "length": "2ep", "lr": 0.01} | changes
    text = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return parse_sweep(
        f"name: s\ntrainer: {{kind: classifier, dataset: mnist1d, batch_size: 100, {text}}}\n"
        "prune: {fraction: 0.5, rounds: 1}\nseeds: [0]\neval: {every: 10it}\n"
    )


def stopping(**rule) -> Trainer:
    stop = Stop.model_validate(rule)
    return make_trainer(study().model_copy(update={"stop": stop}), gpu=False)


def dense(trainer, *, clock=0, end=50, next_masks=None) -> Start:
    weights = trainer.initial(0)
    masks = Masks.dense(weights, trainer.prunable(biases=False).names)
    return Start(
        ticket=Ticket(weights=weights, masks=masks, unmasked=weights),
        data_seed=1,
        trunk_seed=1,
        clock=clock,
        end=end,
        length=70,
        previous=None,
        searching=True,
        next_masks=next_masks,
    )


def test_mnist1d_is_the_published_data_set_split_3500_500_1000():
    dataset = data.load(study().trainer, "cpu")
    published = make_dataset(get_dataset_args())
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (3500, 500, 1000)
    x_test = torch.tensor(published["x_test"], dtype=torch.float32)
    assert torch.equal(dataset.test.x, x_test)
    seen = torch.cat([dataset.train.x, dataset.valid.x])
    whole = torch.tensor(published["x"], dtype=torch.float32)
    assert torch.equal(seen.sort(dim=0).values, whole.sort(dim=0).values)


def test_the_score_is_the_test_accuracy_of_the_last_weights():
    trainer = make_trainer(study(), gpu=False)
    [outcome] = trainer.train([dense(trainer)])
    net = nets.build(study().trainer)
    net.load_state_dict(dict(outcome.weights))
    test = data.load(study().trainer, "cpu").test
    assert outcome.scores.score == (net(test.x).argmax(1) == test.y).sum().item() / 1000


def test_the_test_set_is_read_at_the_end_alone(monkeypatch):
    """Selection on validation: whatever is measured before the last step is not the test set."""
    trainer = make_trainer(study(), gpu=False)
    dataset = data.load(study().trainer, "cpu")
    read = []
    real = loop.measure
    monkeypatch.setattr(loop, "measure", lambda net, split: read.append(split) or real(net, split))
    trainer.train([dense(trainer)])
    kinds = [
        "test" if s is dataset.test else "valid" if s is dataset.valid else "train" for s in read
    ]
    assert kinds == ["valid"] * 5 + ["train", "test", "test"]


@pytest.mark.parametrize("evaluate", ["full", "at-stop"])
def test_a_stop_rule_goes_by_validation_and_the_test_set_is_still_read_at_the_end_alone(
    monkeypatch, evaluate
):
    """It is met by what it is told: validation accuracy, of which the fourth is made to reach."""
    trainer = stopping(rule="target", threshold=0.9, evaluate=evaluate)
    dataset = data.load(study().trainer, "cpu")
    valid = iter([0.1, 0.2, 0.89, 0.9, 0.1])
    read = []

    def measured(net, split):
        read.append("valid" if split is dataset.valid else "other")
        return (1.0, next(valid) if split is dataset.valid else 1.0)

    monkeypatch.setattr(loop, "measure", measured)
    [outcome] = trainer.train([dense(trainer)])
    assert outcome.scores.stop_step == 40
    assert read == ["valid"] * (5 if evaluate == "full" else 4) + ["other"] * 3


def test_a_mask_may_settle_at_the_end_of_an_epoch_alone():
    """Whether anything is measured there or not; the epochs are those of the schedule."""
    looked_at = []

    def next_masks(weights):
        looked_at.append(weights)
        return Masks.dense(weights, ["0.weight"])

    trainer = stopping(rule="mask-difference", evaluate="at-stop")
    begun = dense(trainer, clock=20, end=120, next_masks=next_masks)
    [outcome] = trainer.train([begun])
    assert len(looked_at) == 2, "at steps 35 and 70"
    assert outcome.scores.stop_step == 70
    [outcome] = trainer.train([dense(trainer, clock=40, end=120, next_masks=next_masks)])
    assert outcome.scores.stop_step == 105
    assert outcome.curve[-1].step == 105, "no multiple of 10, but the training's end"


def test_pruned_weights_are_looked_for_where_a_mask_ends_the_training(monkeypatch):
    """Revived weights are counted at the end, wherever the end is."""
    counted = []
    monkeypatch.setattr(loop.Guard, "revived", lambda guard: counted.append(1) or 0)
    trainer = stopping(rule="mask-difference", evaluate="at-stop")
    masks = dense(trainer).ticket.masks
    trainer.train([dense(trainer, clock=69, end=200, next_masks=lambda weights: masks)])
    assert len(counted) == 5, "steps 70, 80, 90, 100 and 105"


def test_score_at_stop_belongs_to_the_lowest_validation_loss():
    """With a learning rate that overshoots, the last weights are not the best ones."""
    trainer = make_trainer(study(lr=0.3), gpu=False)
    [outcome] = trainer.train([dense(trainer)])
    losses = {p.step: p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "loss")}
    best = min(losses, key=lambda step: losses[step])
    [until_best] = trainer.train([dense(trainer, end=best)])
    assert outcome.scores.score_at_stop == until_best.scores.score


def test_the_curves_summaries():
    trainer = make_trainer(study(), gpu=False)
    [outcome] = trainer.train([dense(trainer)])
    valid = [p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "accuracy")]
    assert len(valid) == 5
    assert outcome.scores.score_best == max(valid)
    assert outcome.scores.score_late == valid[-1], "a tenth of five evaluations is one"
    assert outcome.scores.score_area == pytest.approx(sum(valid) / 5)
    assert outcome.scores.metric == "accuracy"


def test_batches_cover_an_epoch_once_and_continue_from_any_step():
    spec = study().trainer
    dataset = data.load(spec, "cpu")
    batches = loop.Batches(dataset, spec, seed=3)
    whole = torch.cat([batches.at(step)[0] for step in range(35)])
    assert torch.equal(whole.sort(dim=0).values, dataset.train.x.sort(dim=0).values)
    later = loop.Batches(dataset, spec, seed=3)
    assert torch.equal(later.at(40)[0], [batches.at(step) for step in range(36, 41)][-1][0])
    assert not torch.equal(batches.at(0)[0], batches.at(35)[0]), "each epoch has its own order"


def test_a_loss_that_is_no_number_ends_the_training_with_the_mend():
    trainer = make_trainer(study(optimizer="sgd", lr=1e20), gpu=False)
    with pytest.raises(TrainingError, match=r"loss became .*trainer\.lr"):
        trainer.train([dense(trainer)])
