"""The classifier: what it measures, on which part of the data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mnist1d.data import get_dataset_args, make_dataset
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from raylottery.errors import TrainingError
from raylottery.pruning import Masks, apply_mask
from raylottery.spec import Stop, parse_sweep
from raylottery.spec.extent import Extent
from raylottery.spec.sections import Eval, Resources
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Scores, Start, Ticket, Trainer
from raylottery.trainers.classifier import data, loop, nets


def study(**changes):
    plain = {"dataset": "mnist1d", "model": "mlp-16", "length": "2ep", "batch_size": 100}
    fields = plain | {"lr": 0.01} | changes
    text = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return parse_sweep(
        f"name: s\ntrainer: {{kind: classifier, {text}}}\n"
        "prune: {fraction: 0.5, rounds: 1}\nseeds: [0]\neval: {every: 10it}\n"
    )


def images(**changes):
    """A study of few small images, on a network that takes any shape."""
    few = {"dataset": "cifar-like", "examples": 200, "batch_size": 30, "model": "mlp-4"}
    return study(**(few | changes))


def classifier(study) -> loop.Classifier:
    trainer = make_trainer(study, gpu=False)
    assert isinstance(trainer, loop.Classifier)
    return trainer


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
    outcome = trainer.train(dense(trainer))
    net = nets.build(study().trainer)
    net.load_state_dict(dict(outcome.weights))
    test = data.load(study().trainer, "cpu").test
    assert outcome.scores.score == (net(test.x).argmax(1) == test.y).sum().item() / 1000


def told(monkeypatch, trainer, losses, accuracies=(0.5,) * 5) -> list[str]:
    """Make what is measured of the validation set these; the list names each split measured."""
    dataset = trainer.dataset
    valid = iter(zip(losses, accuracies, strict=True))
    read = []

    def measured(split):
        names = {id(dataset.train): "train", id(dataset.valid): "valid", id(dataset.test): "test"}
        read.append(names[id(split)])
        return next(valid) if read[-1] == "valid" else (1.0, len(read) / 100)

    monkeypatch.setattr(trainer, "measure", measured)
    return read


@pytest.mark.parametrize(
    ("losses", "lowest", "tested"),
    [
        ((0.5, 0.4, 0.3, 0.2, 0.1), 50, 1),
        ((0.5, 0.4, 0.1, 0.2, 0.3), 30, 2),
        ((0.1, 0.2, 0.3, 0.2, 0.1), 10, 2),  # the first of equals
        ((0.3, 0.3, 0.3, 0.3, 0.3), 10, 2),
    ],
)
def test_the_test_set_is_read_at_the_end_alone_once_for_each_of_the_weights_that_count(
    monkeypatch, losses, lowest, tested
):
    """Selection on validation: whatever is measured before the last step is not the test set. The
    last weights are measured on it, and those of the lowest validation loss if they are others."""
    trainer = classifier(study())
    read = told(monkeypatch, trainer, losses)
    outcome = trainer.train(dense(trainer))
    assert read == ["valid"] * 5 + ["train"] + ["test"] * tested
    assert outcome.scores.min_loss_step == lowest
    assert outcome.scores.score == 0.07, "what the first reading of the test set gave"
    assert outcome.scores.score_at_stop == (0.07 if tested == 1 else 0.08)


def test_the_lowest_loss_is_looked_for_from_the_clock_on(monkeypatch):
    trainer = classifier(study())
    told(monkeypatch, trainer, (0.3, 0.2, 0.4), (0.5,) * 3)
    outcome = trainer.train(dense(trainer, clock=20))
    assert outcome.scores.min_loss_step == 40
    assert outcome.scores.steps == 30


def test_patience_ends_a_search_by_the_validation_loss(monkeypatch):
    """While the accuracy goes on rising; the lowest loss may come after the stop."""
    trainer = classifier(study().model_copy(update={"stop": Stop(rule="patience", patience=2)}))
    losses = (0.5, 0.3, 0.4, 0.3, 0.1)
    read = told(monkeypatch, trainer, losses, (0.1, 0.2, 0.3, 0.4, 0.5))
    outcome = trainer.train(dense(trainer))
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("patience", 40)
    assert outcome.scores.min_loss_step == 50
    assert read[-2:] == ["test", "test"], "the weights at the stop are no longer the last"
    assert outcome.scores.score_at_stop != outcome.scores.score


def test_a_falling_accuracy_is_nothing_to_patience(monkeypatch):
    trainer = classifier(study().model_copy(update={"stop": Stop(rule="patience", patience=1)}))
    told(monkeypatch, trainer, (0.5, 0.4, 0.3, 0.2, 0.1), (0.5, 0.4, 0.3, 0.2, 0.1))
    outcome = trainer.train(dense(trainer))
    assert (outcome.scores.stopped_by, outcome.stopped) == ("length", None)


# Tickets that are not trained


def halved(trainer, **changes) -> Start:
    """A ticket at about half density, whose clock is at the end."""
    begun = dense(trainer, clock=70, end=70)
    generator = torch.Generator().manual_seed(0)
    masks = Masks(
        {
            n: torch.rand(mask.shape, generator=generator) < 0.5
            for n, mask in begun.ticket.masks.items()
        }
    )
    weights = apply_mask(begun.ticket.weights, masks)
    ticket = Ticket(weights=weights, masks=masks, unmasked=begun.ticket.weights)
    return replace(begun, ticket=ticket, **changes)


@pytest.mark.parametrize(
    "asked",
    [
        study(),
        study(optimizer="sgd", momentum=0.9, weight_decay=0.1, label_smoothing=0.3),
        images(model="tests.networks:normed", augment="flip-crop"),
        images(model="tests.networks:dropping"),
    ],
    ids=["plain", "decaying", "normed", "dropping"],
)
def test_a_ticket_with_nothing_left_to_train_is_measured_as_it_is(asked):
    trainer = classifier(asked)
    begun = halved(trainer)
    outcome = trainer.train(begun)
    assert outcome.scores.steps == outcome.revived == 0
    assert list(outcome.weights) == list(begun.ticket.weights)
    for name, weight in outcome.weights.items():
        assert torch.equal(weight, begun.ticket.weights[name]), name
    trainer.net.load_state_dict(dict(begun.ticket.weights))
    dataset = trainer.dataset
    train, valid, test = (trainer.measure(s) for s in (dataset.train, dataset.valid, dataset.test))
    assert [(p.step, p.split, p.metric, p.value) for p in outcome.curve] == [
        (70, "train", "loss", train[0]),
        (70, "valid", "loss", valid[0]),
        (70, "valid", "accuracy", valid[1]),
    ]
    assert outcome.scores == Scores(
        metric="accuracy", score=test[1], score_at_stop=test[1], score_best=valid[1],
        score_late=valid[1], score_area=valid[1], train_score=train[1], loss=train[0], steps=0,
        min_loss_step=70,
    )  # fmt: skip


@pytest.mark.parametrize("rule", ["target", "plateau", "patience"])
def test_no_rule_stops_a_ticket_that_is_not_trained(rule):
    """There is no search to end: the next ticket is drawn from what is there."""
    fields = {"threshold": 0.0} if rule == "target" else {"patience": 1}
    stop = Stop.model_validate({"rule": rule, **fields, "evaluate": "at-stop"})
    trainer = classifier(study().model_copy(update={"stop": stop}))
    outcome = trainer.train(halved(trainer))
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("length", None)
    assert outcome.stopped is None


@pytest.mark.parametrize("evaluate", ["full", "at-stop"])
def test_a_stop_rule_goes_by_validation_and_the_test_set_is_still_read_at_the_end_alone(
    monkeypatch, evaluate
):
    """It is met by what it is told: validation accuracy, of which the fourth is made to reach."""
    trainer = stopping(rule="target", threshold=0.9, evaluate=evaluate)
    dataset = data.load(study().trainer, "cpu")
    valid = iter([0.1, 0.2, 0.89, 0.9, 0.1])
    read = []

    def measured(split):
        read.append("valid" if split is dataset.valid else "other")
        return (1.0, next(valid) if split is dataset.valid else 1.0)

    monkeypatch.setattr(trainer, "measure", measured)
    outcome = trainer.train(dense(trainer))
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
    outcome = trainer.train(begun)
    assert len(looked_at) == 2, "at steps 35 and 70"
    assert outcome.scores.stop_step == 70
    outcome = trainer.train(dense(trainer, clock=40, end=120, next_masks=next_masks))
    assert outcome.scores.stop_step == 105
    assert outcome.curve[-1].step == 105, "no multiple of 10, but the training's end"


def test_pruned_weights_are_looked_for_where_a_mask_ends_the_training(monkeypatch):
    """Revived weights are counted at the end, wherever the end is."""
    counted = []
    monkeypatch.setattr(loop.Guard, "revived", lambda guard: counted.append(1) or 0)
    trainer = stopping(rule="mask-difference", evaluate="at-stop")
    masks = dense(trainer).ticket.masks
    trainer.train(dense(trainer, clock=69, end=200, next_masks=lambda weights: masks))
    assert len(counted) == 5, "steps 70, 80, 90, 100 and 105"


def test_score_at_stop_belongs_to_the_lowest_validation_loss():
    """With a learning rate that overshoots, the last weights are not the best ones."""
    trainer = make_trainer(study(lr=0.3), gpu=False)
    outcome = trainer.train(dense(trainer))
    losses = {p.step: p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "loss")}
    best = min(losses, key=lambda step: losses[step])
    until_best = trainer.train(dense(trainer, end=best))
    assert best < 50, "or nothing is shown here"
    assert outcome.scores.min_loss_step == best
    assert outcome.scores.score_at_stop == until_best.scores.score


def test_the_curves_summaries():
    trainer = make_trainer(study(), gpu=False)
    outcome = trainer.train(dense(trainer))
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
        trainer.train(dense(trainer))


def test_smoothed_labels_are_what_is_trained_on_and_the_validation_loss_is_plain():
    trainer = classifier(study(label_smoothing=0.2))
    begun = dense(trainer, end=1)
    x, y = loop.Batches(trainer.dataset, trainer.spec, begun.data_seed).at(0)
    net = nets.build(trainer.spec)
    net.load_state_dict(dict(begun.ticket.weights))
    logs = net(x).log_softmax(dim=1)
    own, spread = -logs[torch.arange(len(y)), y].mean(), -logs.mean()
    outcome = trainer.train(begun)
    assert outcome.scores.loss == pytest.approx((0.8 * own + 0.2 * spread).item(), rel=1e-5)
    net.load_state_dict(dict(outcome.weights))
    valid = trainer.dataset.valid
    plain = torch.nn.functional.cross_entropy(net(valid.x), valid.y).item()
    found = [p.value for p in outcome.curve if (p.split, p.metric) == ("valid", "loss")]
    assert found == pytest.approx([plain], rel=1e-5)


@pytest.mark.parametrize("decay_all", ["true", "false"])
def test_norms_and_biases_decay_unless_they_are_left_out(decay_all):
    """One step with and one without decay differ by lr times decay times the weight, or by 0."""
    norms = {"dataset": "cifar-like", "examples": 100, "batch_size": 50, "optimizer": "sgd",
             "model": "tests.networks:normed", "length": "10it", "lr": 0.1}  # fmt: skip
    decayed, plain = (
        classifier(study(**norms, weight_decay=decay, decay_all=decay_all)) for decay in (0.5, 0.0)
    )
    begun = dense(plain, end=1)
    with_decay, without = decayed.train(begun), plain.train(begun)
    for name, _ in plain.net.named_parameters():
        weight = begun.ticket.weights[name]
        decays = decay_all == "true" or weight.ndim > 1
        expected = without.weights[name] - (0.1 * 0.5 * weight if decays else 0)
        torch.testing.assert_close(with_decay.weights[name], expected)
        assert weight.count_nonzero() or "bias" in name, "or nothing were shown"


def test_bf16_trains_float32_weights_and_repeats_itself():
    trainer = make_trainer(study(precision="bf16"), gpu=False)
    full = make_trainer(study(), gpu=False)
    first, second = trainer.train(dense(trainer)), trainer.train(dense(trainer))
    exact = full.train(dense(full))
    assert {tensor.dtype for tensor in first.weights.values()} == {torch.float32}
    assert first.digests == second.digests
    assert first.curve == second.curve
    assert first.curve != exact.curve, "it is no float32"
    assert first.scores.loss == pytest.approx(exact.scores.loss, rel=0.05)


@pytest.mark.parametrize("augment", ["flip-crop", "flip-crop-cutout"])
def test_the_images_of_a_step_depend_on_the_seed_and_the_step_alone(augment):
    spec = images(augment=augment).trainer
    dataset = data.load(spec, "cpu")
    whole = loop.Batches(dataset, spec, seed=3)
    seen = [whole.at(step) for step in range(14)]
    torch.manual_seed(8)
    for step in (9, 13, 2):  # a clock in the middle, and one that goes back
        for found, expected in zip(
            loop.Batches(dataset, spec, seed=3).at(step), seen[step], strict=True
        ):
            assert torch.equal(found, expected)
    drawn_from = set()
    for step in range(14):
        whole.at(step)
        drawn_from.add(whole.chance.initial_seed())
    assert len(drawn_from) == 14, "each step has its own draws"
    plain = loop.Batches(dataset, images().trainer, seed=3)
    assert torch.equal(plain.at(9)[1], seen[9][1]), "the order is the same"
    assert not torch.equal(plain.at(9)[0], seen[9][0]), "and the images are changed"
    other = loop.Batches(dataset, spec, seed=4)
    assert not torch.equal(other.at(0)[0], seen[0][0])


def test_what_is_measured_is_not_augmented():
    trainer, plain = (
        make_trainer(images(augment=augment), gpu=False) for augment in ("flip-crop", "none")
    )
    measured = []
    for one in (trainer, plain):
        assert isinstance(one, loop.Classifier)
        one.net.load_state_dict(dict(plain.initial(0)))
        dataset = one.dataset
        measured.append([one.measure(s) for s in (dataset.train, dataset.valid, dataset.test)])
    assert measured[0] == measured[1]


def test_the_rate_of_the_schedule_is_what_moves_the_weights():
    """sgd's step is as long as its rate: a tenth where the rate has dropped to a tenth."""
    drops = {"optimizer": "sgd", "schedule": "drops", "drops": "[10it]"}
    trainer, plain = (
        make_trainer(study(**fields), gpu=False) for fields in (drops, {"optimizer": "sgd"})
    )
    begun = dense(plain, clock=15, end=16)
    dropped, constant = trainer.train(begun), plain.train(begun)
    for name, weight in begun.ticket.weights.items():
        moved = constant.weights[name] - weight
        torch.testing.assert_close(dropped.weights[name] - weight, moved / 10, atol=1e-7, rtol=0)
        assert moved.abs().max() > 1e-5


WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "is_nonzero"}
"""What makes a processor wait until its GPU has the answer."""


class Waiting(TorchDispatchMode):
    """Notes whatever torch does that a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        places = [place for part in args[1:2] for place in part] if name == "index" else []
        if name in WAITS or any(isinstance(p, Tensor) and p.dtype == torch.bool for p in places):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device_until_something_is_measured():
    fields = {"model": "tests.networks:normed", "optimizer": "sgd", "momentum": 0.9}
    trainer = classifier(images(augment="flip-crop-cutout", **fields))
    begun = dense(trainer)
    learner = loop.Learner(trainer, begun)
    with Waiting() as waiting:
        learner.advance(0, 2 * learner.batches.order.per_epoch, auditing=False)
        assert not waiting.seen
        learner.mean_loss()
        assert waiting.seen, "or the test could not fail"


@pytest.mark.parametrize("net", ["normed", "dropping"])
def test_a_clock_in_the_middle_goes_on_as_the_whole_training_did(net):
    """To the bit, where the optimizer keeps nothing: order, augmentation, rate, norms, draws."""
    fields = {"model": f"tests.networks:{net}", "optimizer": "sgd", "schedule": "cosine",
              "warmup": "3it", "augment": "flip-crop-cutout"}  # fmt: skip
    trainer = classifier(images(**fields))
    begun = dense(trainer, end=14)
    whole = trainer.train(replace(begun, keep=(5,)))
    middle = {name: tensor.contiguous() for name, tensor in whole.snapshots[5].items()}
    ticket = replace(begun.ticket, weights=middle)
    rest = trainer.train(replace(begun, ticket=ticket, clock=5))
    assert list(rest.weights) == list(whole.weights)
    for name, weight in rest.weights.items():
        assert torch.equal(weight, whole.weights[name]), name
    for name in begun.ticket.masks:
        assert not torch.equal(rest.weights[name], middle[name]), name
    assert rest.scores.score == whole.scores.score


def test_dropout_depends_on_the_seed_and_the_step_alone():
    drops = {"model": "tests.networks:dropping"}
    often = make_trainer(images(**drops), gpu=False)
    rarely = Eval(every=Extent.parse("12it"))
    seldom = make_trainer(images(**drops).model_copy(update={"eval": rarely}), gpu=False)
    state = torch.random.get_rng_state()
    first = often.train(dense(often, end=12))
    assert torch.equal(torch.random.get_rng_state(), state), "the user's draws go on as they were"
    torch.manual_seed(5)
    second = seldom.train(dense(seldom, end=12))
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name]), name


def test_a_network_that_is_made_for_evaluation_is_trained_all_the_same():
    trainer = make_trainer(images(model="tests.networks:normed_for_evaluation"), gpu=False)
    outcome = trainer.train(dense(trainer, end=1))
    assert outcome.weights["1.num_batches_tracked"] == 1


def test_a_full_gpu_names_what_fills_it_and_the_mend(monkeypatch):
    full = study().model_copy(update={"resources": Resources(gpus=0.25)})
    trainer = make_trainer(full, gpu=False)

    def update(learner, x, y, *, auditing):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop.Learner, "update", update)
    with pytest.raises(TrainingError) as caught:
        trainer.train(dense(trainer))
    assert str(caught.value) == (
        "the memory of cpu is full: lower trainer.batch_size (now 100), or raise resources.gpus "
        "(now 0.25) so that fewer trials share a GPU"
    )
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_network_is_built_once_for_its_names_and_shapes(monkeypatch):
    built = []
    real = nets.skeleton
    monkeypatch.setattr(nets, "skeleton", lambda spec: built.append(spec) or real(spec))
    trainer = make_trainer(study(), gpu=False)
    for biases in (False, True):
        trainer.prunable(biases=biases)
    trainer.positions()
    trainer.total_params()
    assert len(built) == 1
