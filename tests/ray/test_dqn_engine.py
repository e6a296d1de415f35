"""The RLlib engine: that masks hold in every copy of the network, that equal starts give equal
outcomes wherever the work is done, and that a round begins with what its sweep says."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray._private.state import actors
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from raylottery.errors import TrainingError
from raylottery.pruning import Masks, apply_mask
from raylottery.pruning.guard import Guard
from raylottery.spec import parse_sweep
from raylottery.trainers import make_trainer
from raylottery.trainers.base import Outcome, Previous, Start, Ticket, Weights, digest
from raylottery.trainers.dqn.episodes import greedy
from raylottery.trainers.dqn.replay import Transitions
from raylottery.trainers.dqn.resets import NORMALISER
from raylottery.trainers.dqn.rllib import RLlibDQN
from raylottery.trainers.dqn.rllib.algorithm import TicketDQN, build, interleaved
from raylottery.trainers.dqn.rllib.learner import TicketLearner
from raylottery.trainers.dqn.rllib.masking import MaskedLearner
from raylottery.trainers.dqn.rllib.runner import TransitionRunner


pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    # Ray says so of settings of its own, wherever learners are started.
    pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning"),
]

SWEEP = """
name: engine
trainer: {kind: dqn, env: CartPole-v1, hidden: [16], length: 64it, learning_starts: 64, envs: 4,
          rollout: 16, updates: 8, batch_size: 16, buffer: 200, n_step: 1, lr: 0.01, lr_end: 1.0,
          epsilon_decay: 50%, target_every: 1it, tau: 0.05}
prune: {fraction: 0.5, rounds: 1}
eval: {every: 16it, episodes: 2, final: 3}
seeds: [0]
"""
LENGTH = 64

VARIANTS = {
    "plain": (),
    "decay-and-clip": ("trainer.weight_decay=0.1", "trainer.clip=0.01"),
    "hard-target": ("trainer.target_every=8it", "trainer.tau=1.0"),
    "dueling": ("trainer.dueling=true", "trainer.double=false"),
    "prioritised": ("trainer.n_step=3", "trainer.priority=0.6", "trainer.normalise=true"),
    "atoms": ("trainer.atoms=11", "trainer.value_range=5.0"),
}
RICH = tuple(
    change for name in ("decay-and-clip", "dueling", "prioritised") for change in VARIANTS[name]
)
"""Much of it at once, for the processes that take long to start."""

SYNCS = ("trainer.target_every=10it", "trainer.tau=1.0")

PROCESSES = [(0, 0), (1, 0), (0, 1), (2, 2)]
"""Env runners and learners."""


def spread(runners: int, learners: int) -> tuple[str, ...]:
    return (f"trainer.runners={runners}", f"trainer.learners={learners}")


PLACES = {
    **VARIANTS,
    **{f"{r}-runners-{n}-learners": (*RICH, *spread(r, n)) for r, n in PROCESSES},
}


class Trainers:
    """Each trainer is made once, as most of a test's time would go into its processes."""

    def __init__(self):
        self.made: dict[tuple[str, ...], RLlibDQN] = {}

    def __call__(self, *changes: str) -> RLlibDQN:
        if changes not in self.made:
            trainer = make_trainer(parse_sweep(SWEEP, overrides=changes), gpu=False)
            assert isinstance(trainer, RLlibDQN)
            self.made[changes] = trainer
        return self.made[changes]

    def take(self, *changes: str) -> RLlibDQN:
        """One that no test after this is to use."""
        self(*changes)
        return self.made.pop(changes)

    def close(self) -> None:
        while self.made:
            self.made.popitem()[1].close()


@pytest.fixture(scope="module")
def trainers(local_ray) -> Iterator[Trainers]:
    with closing(Trainers()) as made:
        yield made


@pytest.fixture
def fresh(local_ray) -> Iterator[Trainers]:
    """Trainers that no other test uses."""
    with closing(Trainers()) as made:
        yield made


def masks_of(weights: Weights, trainer: RLlibDQN, seed: int = 1) -> Masks:
    """Half of every prunable tensor, biases too."""
    chance = torch.Generator().manual_seed(seed)
    names = trainer.prunable(biases=True).names
    return Masks({n: torch.rand(weights[n].shape, generator=chance) < 0.5 for n in names})


def ticket(trainer: RLlibDQN, masks: Masks | None = None) -> Ticket:
    weights = trainer.initial(0)
    masks = masks_of(weights, trainer) if masks is None else masks
    return Ticket(weights=apply_mask(weights, masks), masks=masks, unmasked=weights)


def start(trainer: RLlibDQN, **fields: Any) -> Start:
    plain = Start(
        ticket=ticket(trainer),
        data_seed=7,
        trunk_seed=5,
        clock=0,
        end=LENGTH,
        length=LENGTH,
        previous=None,
        searching=True,
        next_masks=None,
    )
    return replace(plain, **fields)


def dense(trainer: RLlibDQN, **fields: Any) -> Start:
    weights = trainer.initial(1)
    every = Masks.dense(weights, trainer.prunable(biases=True).names)
    return start(trainer, ticket=ticket(trainer, every), data_seed=9, **fields)


def assert_same_outcome(a: Outcome, b: Outcome) -> None:
    assert digest(a.weights) == digest(b.weights)
    assert a.scores == b.scores
    assert a.curve == b.curve
    assert a.digests == b.digests
    assert a.revived == b.revived == 0


def bits(tensor: Tensor) -> Tensor:
    """Of which +0.0 alone has none."""
    assert tensor.dtype == torch.float32
    return tensor.contiguous().view(torch.int32)


def assert_nothing_where_pruned(named: Mapping[str, Tensor], masks: Masks) -> None:
    """Plus zero to the bit where the mask prunes, and life where it does not."""
    for name, mask in masks.items():
        assert (bits(named[name])[~mask] == 0).all(), name
        assert (named[name][mask] != 0).any() or not mask.any(), name


def target_weights(learner: TicketLearner) -> Weights:
    return {name: t.detach().clone() for name, t in learner.q.target.state_dict().items()}


def local_learner(algorithm: Any) -> Any:
    return algorithm.learner_group._learner


def local_runner(algorithm: Any) -> Any:
    return algorithm.env_runner_group.local_env_runner


def assert_pruned_everywhere(algorithm: TicketDQN, masks: Masks) -> None:
    """Every copy of the network, in every process, and all copies alike."""
    online = algorithm.on_learners(TicketLearner.weights)
    targets = algorithm.on_learners(target_weights)
    acting = algorithm.on_runners(TransitionRunner.weights)
    for weights in (*online, *targets, *acting):
        assert_nothing_where_pruned(weights, masks)
    assert len({digest(weights) for weights in (*online, *acting)}) == 1
    assert len({digest(weights) for weights in targets}) == 1


# That masks hold


@pytest.mark.parametrize("place", list(PLACES))
def test_pruned_weights_are_zero_in_every_network_of_every_process(trainers, place):
    """At the first action and after the training, even where a dense network was there before."""
    trainer = trainers(*PLACES[place])
    trainer.train(dense(trainer, end=16))
    pruned = start(trainer)
    masks = pruned.ticket.masks

    trainer.begin(pruned)
    trainer.algorithm.refresh()
    assert_pruned_everywhere(trainer.algorithm, masks)

    outcome = trainer.train(pruned)
    assert outcome.revived == 0
    assert_pruned_everywhere(trainer.algorithm, masks)
    assert_nothing_where_pruned(outcome.weights, masks)
    for name, mask in masks.items():
        moved = outcome.weights[name] != pruned.ticket.weights[name]
        assert moved.any() == mask.any(), name
    for moments in trainer.algorithm.on_learners(TicketLearner.moments):
        for kind in ("exp_avg", "exp_avg_sq"):
            # A moment may be -0.0, which adds nothing to any weight.
            kept = {name: moments[f"{kind}.{name}"] + 0.0 for name in masks}
            assert_nothing_where_pruned(kept, masks)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_pruned_weights_are_zero_after_every_update_and_at_every_action(
    trainers, variant, monkeypatch
):
    trainer = trainers(*VARIANTS[variant])
    trainer.train(dense(trainer, end=16))
    pruned = start(trainer)
    masks = pruned.ticket.masks
    acted: list[Weights] = []
    updates = []

    def act(runner, obs, epsilon, play=TransitionRunner.act):
        if epsilon < 1:
            acted.append(runner.weights())
        return play(runner, obs, epsilon)

    def apply_gradients(learner, gradients, step=MaskedLearner.apply_gradients):
        step(learner, gradients)
        assert_nothing_where_pruned(learner.weights(), masks)
        assert_nothing_where_pruned(target_weights(learner), masks)
        updates.append(learner.step)

    monkeypatch.setattr(TransitionRunner, "act", act)
    monkeypatch.setattr(TicketLearner, "apply_gradients", apply_gradients)
    trainer.train(pruned)
    assert updates == list(range(LENGTH))
    assert len(acted) >= (LENGTH / 8 - 1) * 4
    for weights in acted:
        assert_nothing_where_pruned(weights, masks)


def test_without_the_guard_weights_come_back_and_are_counted(trainers, monkeypatch):
    """Or a count of 0 would tell nothing."""
    trainer = trainers()
    monkeypatch.setattr(Guard, "mask_gradients", lambda guard: None)
    assert trainer.train(start(trainer)).revived > 0, "seen before the weights are masked"
    monkeypatch.setattr(Guard, "mask_weights", lambda guard: None)
    outcome = trainer.train(start(trainer))
    masks = start(trainer).ticket.masks
    assert outcome.revived > 0
    assert any((outcome.weights[name][~mask] != 0).any() for name, mask in masks.items())


@pytest.mark.parametrize("place", ["plain", "2-runners-2-learners"])
def test_a_weight_that_came_back_is_counted_in_whatever_network_it_is(trainers, place):
    trainer = trainers(*PLACES[place])
    algorithm = trainer.algorithm
    masks = start(trainer).ticket.masks
    name = "body.0.weight"
    [row, column] = (~masks[name]).nonzero()[0].tolist()
    processes = 1 if place == "plain" else 2

    def revive_online(learner):
        learner.q.net.get_parameter(name).data[row, column] = 1e-30

    def revive_target(learner):
        learner.q.target.get_parameter(name).data[row, column] = 1e-30

    def revive_acting(runner):
        runner.module.net.get_parameter(name).data[row, column] = 1e-30

    for where, revive in (
        (algorithm.on_learners, revive_online),
        (algorithm.on_learners, revive_target),
        (algorithm.on_runners, revive_acting),
    ):
        trainer.begin(start(trainer))
        algorithm.refresh()
        assert algorithm.count_revived() == 0
        where(revive)
        assert algorithm.count_revived() == processes


def test_a_runner_that_acts_with_other_weights_is_found_out(fresh, monkeypatch):
    trainer = fresh()
    monkeypatch.setattr(TicketDQN, "refresh", lambda algorithm: None)
    with pytest.raises(TrainingError, match="an env runner holds other weights than those"):
        trainer.train(start(trainer))


# An update, by hand


def batch(seed: int, size: int = 16) -> Transitions:
    """A batch of every kind of transition."""
    chance = np.random.default_rng(seed)
    return {
        "obs": chance.normal(size=(size, 4)).astype(np.float32),
        "actions": chance.integers(2, size=size),
        "rewards": chance.normal(scale=2, size=size).round().astype(np.float32),
        "next_obs": chance.normal(size=(size, 4)).astype(np.float32),
        "terminateds": chance.random(size) < 0.3,
        "n_step": chance.integers(1, 4, size=size).astype(np.float32),
        "weights": chance.uniform(0.2, 1, size=size).astype(np.float32),
    }


def loss_by_hand(net, target, spec, batch: Transitions) -> tuple[Tensor, Tensor]:
    """The loss of a batch and the error of each transition, one transition at a time."""
    parts = {name: torch.from_numpy(part) for name, part in batch.items()}
    losses, errors = [], []
    for obs, action, reward, after, over, n, weight in zip(*parts.values(), strict=True):
        obs, after = obs[None], after[None]
        best = int((net if spec.double else target)(after).argmax())
        discount = 0.0 if over else float(spec.gamma ** n.item())
        if spec.atoms == 1:
            goal = reward + discount * target(after)[0, best].detach()
            error = net(obs)[0, action] - goal
            huber = spec.loss == "huber"
            squared = error**2 / 2 if abs(error) < 1 else abs(error) - 0.5
            loss = squared if huber else error**2
            errors.append(abs(error.detach()))
        else:
            shares = target.distribution(after)[0, best].softmax(dim=0).tolist()
            goal = projected(shares, float(reward), discount, spec)
            loss = -(net.distribution(obs)[0, action].log_softmax(dim=0) * goal).sum()
            errors.append(loss.detach())
        losses.append(weight * loss)
    return torch.stack(losses).mean(), torch.stack(errors)


def projected(shares: list[float], reward: float, discount: float, spec) -> Tensor:
    """Each atom's share goes to the two atoms around where the reward moves it."""
    reach, gap = spec.value_range, 2 * spec.value_range / (spec.atoms - 1)
    goal = torch.zeros(spec.atoms)
    for i, share in enumerate(shares):
        moved = min(max(reward + discount * (-reach + i * gap), -reach), reach)
        place = (moved + reach) / gap
        below = min(int(place), spec.atoms - 2)
        goal[below] += share * (below + 1 - place)
        goal[below + 1] += share * (place - below)
    return goal


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("trainer.double=false", "trainer.dueling=true", "trainer.loss=squared"),
        ("trainer.weight_decay=0.1",),
        VARIANTS["atoms"],
        (*VARIANTS["atoms"], "trainer.double=false", "trainer.dueling=true"),
    ],
    ids=["double-huber", "dueling-squared", "decay", "atoms", "atoms-dueling"],
)
def test_an_update_is_the_one_made_by_hand_and_its_norm_is_of_survivors(fresh, changes):
    """The loss, the gradient of survivors, their clipping, Adam, and a soft target."""
    trainer = fresh(*changes, "trainer.clip=0.05", "trainer.adam_epsilon=0.001")
    spec, pruned = trainer.spec, start(trainer)
    masks = pruned.ticket.masks
    target = apply_mask(trainer.initial(3), masks)
    trainer.begin(pruned)
    learner = local_learner(trainer.algorithm)
    learner.q.target.load_state_dict(target)
    net, frozen = deepcopy(learner.q.net), deepcopy(learner.q.target)
    adam = torch.optim.Adam(
        net.parameters(), lr=0.02, eps=spec.adam_epsilon, weight_decay=spec.weight_decay
    )

    for step in range(3):
        errors = learner.learn([batch(step)], [0.02], last_counts=True)
        loss, expected_errors = loss_by_hand(net, frozen, spec, batch(step))
        adam.zero_grad()
        loss.backward()
        named = dict(net.named_parameters())
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        norms = [math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))]
        for name, mask in masks.items():
            gradients[name] *= mask
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in gradients.values())))
        assert norms[0] > 1.1 * norms[1] > 1.1 * spec.clip, "or clipping would not show"
        for gradient in gradients.values():
            gradient *= spec.clip / norms[1]
        adam.step()
        with torch.no_grad():
            for old, now in zip(frozen.parameters(), net.parameters(), strict=True):
                old += spec.tau * (now - old)

        assert errors == pytest.approx(expected_errors.numpy(), rel=1e-4, abs=1e-5)
        assert learner.mean_loss() == pytest.approx(loss.item(), rel=1e-4)
        assert_close(learner.weights(), net.state_dict())
        assert_close(target_weights(learner), frozen.state_dict())
        moments = learner.moments()
        assert_close(
            {name: moments[f"exp_avg.{name}"] for name in named},
            {name: adam.state[p]["exp_avg"] for name, p in named.items()},
        )


def assert_close(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(("clock", "syncs"), [(0, (10, 20)), (16, (20, 30)), (20, (30, 40))])
def test_a_target_is_synced_at_the_steps_of_the_schedule_that_its_distance_divides(
    trainers, clock, syncs
):
    """Wherever the clock starts: after the update that makes the step full."""
    trainer = trainers(*SYNCS)
    trainer.begin(start(trainer, clock=clock))
    learner = local_learner(trainer.algorithm)
    before = digest(target_weights(learner))
    for step in range(clock + 1, syncs[-1] + 1):
        trainer.algorithm.advance(step)
        target = digest(target_weights(learner))
        if step in syncs:
            assert target == digest(trainer.algorithm.weights())
            assert target != before
        else:
            assert target == before
        before = target


def test_two_learners_make_the_update_that_one_makes(trainers):
    """On halves of a batch, of which the gradients are averaged."""
    one, two = (trainers(*PLACES[f"{n}-runners-{n}-learners"]) for n in (0, 2))
    results = []
    for trainer in (one, two):
        trainer.begin(start(trainer))
        algorithm = trainer.algorithm
        statistics = {name: torch.zeros_like(t) for name, t in normaliser(algorithm).items()}
        errors = []
        algorithm.on_learners(take_statistics, statistics=statistics)
        for step in range(3):
            answers = algorithm.on_learners(
                TicketLearner.learn, batches=[batch(step)], lrs=[0.01], last_counts=False
            )
            errors.append(interleaved(answers))
        results.append((algorithm.weights(), errors))
    (weights, errors), (other_weights, other_errors) = results
    assert_close(other_weights, weights)
    for step, whole in enumerate(errors):
        assert other_errors[step] == pytest.approx(whole, rel=1e-3, abs=1e-5)


def take_statistics(learner: TicketLearner, statistics: Weights) -> None:
    for net in (learner.q.net, learner.q.target):
        net.load_state_dict(dict(statistics), strict=False)


def normaliser(algorithm: TicketDQN) -> Weights:
    weights = algorithm.weights()
    return {name: weights[name] for name in NORMALISER}


# Masks in RLlib's own hands


def test_a_restored_algorithm_holds_its_masks(trainers, tmp_path):
    """RLlib's own checkpoint, in an algorithm that never heard of the ticket."""
    trainer = trainers(*VARIANTS["dueling"])
    pruned = start(trainer)
    masks = pruned.ticket.masks
    trainer.begin(pruned)
    trainer.algorithm.advance(16)
    trainer.algorithm.save_to_path(tmp_path)

    other = build(trainer.spec, gpus=0)
    try:
        other.restore_from_path(tmp_path)
        ours, theirs = local_learner(trainer.algorithm), local_learner(other)
        assert digest(theirs.weights()) == digest(ours.weights())
        assert digest(target_weights(theirs)) == digest(target_weights(ours))
        assert digest(theirs.moments()) == digest(ours.moments())
        assert_pruned_everywhere(other, masks)
        for learner in (ours, theirs):
            learner.step = 16
            learner.learn([batch(step) for step in range(20)], [0.01] * 20, last_counts=True)
            assert learner.revived == 0
            assert_nothing_where_pruned(learner.weights(), masks)
            assert_nothing_where_pruned(target_weights(learner), masks)
        assert digest(theirs.weights()) == digest(ours.weights())
    finally:
        other.stop()


def test_a_dense_algorithm_that_is_restored_takes_on_the_masks(trainers, tmp_path):
    trainer = trainers()
    pruned = start(trainer)
    trainer.begin(pruned)
    trainer.algorithm.advance(8)
    saved = trainer.algorithm.weights()
    trainer.algorithm.save_to_path(tmp_path)
    trainer.begin(dense(trainer))
    trainer.algorithm.advance(8)
    trainer.algorithm.restore_from_path(tmp_path)
    learner = local_learner(trainer.algorithm)
    assert digest(learner.weights()) == digest(saved)
    learner.learn([batch(step) for step in range(20)], [0.01] * 20, last_counts=True)
    assert learner.revived == 0
    assert_nothing_where_pruned(learner.weights(), pruned.ticket.masks)


class MaskedPPOLearner(MaskedLearner, PPOTorchLearner):
    """Another algorithm's learner, which is told nothing but this."""


def test_the_mixin_masks_another_algorithms_learner(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))
    algorithm = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(learner_class=MaskedPPOLearner)
        .training(train_batch_size=64, minibatch_size=32, num_epochs=2, lr=0.01)
        .debugging(log_level="ERROR")
        .build_algo()
    )
    try:
        learner = local_learner(algorithm)
        chance = torch.Generator().manual_seed(0)
        begun = {name: p.detach().clone() for name, p in parameters(learner)}
        dense = {name: weight for name, weight in begun.items() if weight.dim() > 1}
        masks = Masks({n: torch.rand(w.shape, generator=chance) < 0.5 for n, w in dense.items()})
        learner.hold({DEFAULT_MODULE_ID: masks})
        learner.counting = True
        algorithm.train()
        assert learner.revived == 0
        assert_nothing_where_pruned(dict(parameters(learner)), masks)
        for name, parameter in parameters(learner):
            assert (parameter != begun[name])[masks.get(name, ...)].any(), name
        [(_, optimizer)] = learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
        for name, parameter in parameters(learner):
            if name in masks:
                moments = optimizer.state[parameter]["exp_avg"]
                assert (moments[~masks[name]] == 0).all()
        acting = local_runner(algorithm).module.state_dict()
        for name in masks.keys() & acting.keys():
            assert (bits(acting[name])[~masks[name]] == 0).all()
        assert masks.keys() & acting.keys()
    finally:
        algorithm.stop()


def parameters(learner) -> list[tuple[str, Tensor]]:
    return list(learner.module[DEFAULT_MODULE_ID].named_parameters())


# Equal starts, equal outcomes


def test_where_experience_and_updates_are_made_changes_no_bit(trainers):
    here, runner, learner = (
        trainer.train(start(trainer, keep=(0, 16)))
        for trainer in (trainers(*PLACES[f"{r}-runners-{n}-learners"]) for r, n in PROCESSES[:3])
    )
    assert_same_outcome(here, runner)
    assert_same_outcome(here, learner)


@pytest.mark.parametrize("place", ["plain", "0-runners-0-learners", "2-runners-2-learners"])
def test_a_round_leaves_nothing_to_the_next(trainers, place):
    trainer = trainers(*PLACES[place])
    first = trainer.train(start(trainer, keep=(0,)))
    assert_same_outcome(first, trainer.train(start(trainer, keep=(0,))))
    trainer.train(dense(trainer))
    trainer.train(start(trainer, clock=40, data_seed=3))
    assert_same_outcome(first, trainer.train(start(trainer, keep=(0,))))
    assert first.digests != trainer.train(start(trainer, keep=(0,), data_seed=8)).digests


def test_a_new_trainer_gives_what_a_used_one_gives(trainers, fresh):
    trainer, other = trainers(*RICH), fresh(*RICH)
    trainer.train(dense(trainer))
    assert_same_outcome(
        trainer.train(start(trainer, keep=(0,))), other.train(start(other, keep=(0,)))
    )


def test_no_global_random_state_matters(trainers):
    trainer = trainers(*RICH)
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        outcomes.append(trainer.train(start(trainer, keep=(0,))))
    assert_same_outcome(*outcomes)


# What a round begins with


def carried(trainer: RLlibDQN) -> Previous:
    """What a round before may have left: its weights, its buffer and its moments."""
    weights = trainer.initial(11)
    if trainer.spec.normalise:
        statistics = (torch.full((4,), 5.0), torch.full((4,), 2.0), torch.tensor(1000))
        weights = {**weights, **dict(zip(NORMALISER, statistics, strict=True))}
        weights = {n: t.to(trainer.initial(0)[n].dtype) for n, t in weights.items()}
    chance = torch.Generator().manual_seed(2)
    moments = {
        f"optimizer.{kind}.{name}": torch.rand(weights[name].shape, generator=chance)
        for kind in ("exp_avg", "exp_avg_sq")
        for name in weights
        if name not in NORMALISER
    }
    steps = {
        f"optimizer.step.{name}": torch.tensor(50.0) for name in weights if name not in NORMALISER
    }
    replay = {k: torch.from_numpy(part) for k, part in batch(4, 30).items() if k != "weights"}
    kept = {f"replay.{name}": tensor for name, tensor in replay.items()}
    return Previous(weights=weights, carried={**moments, **steps, **kept})


RESETTABLE = ("trainer.normalise=true", "trainer.lr_end=0.5")


def begun(trainers: Trainers, *changes: str, **fields: Any) -> dict[str, str]:
    """A hash of each thing that a round has when it has just begun."""
    return {name: hashed(thing) for name, thing in state(trainers, *changes, **fields).items()}


def state(trainers: Trainers, *changes: str, **fields: Any) -> dict[str, Any]:
    trainer = trainers(*RESETTABLE)
    trainer.study = parse_sweep(SWEEP, overrides=(*RESETTABLE, *changes))
    statistics = {"obs_count": torch.tensor(500)}
    drawn = ticket(trainer)
    drawn = replace(drawn, weights={**drawn.weights, **statistics})
    fields = {"clock": 16, "previous": carried(trainer), "ticket": drawn, **fields}
    trainer.begin(start(trainer, **fields))
    algorithm = trainer.algorithm
    learner, runner = local_learner(algorithm), local_runner(algorithm)
    online, target = learner.weights(), target_weights(learner)
    return {
        "online": {n: t for n, t in online.items() if n not in NORMALISER},
        "target": {n: t for n, t in target.items() if n not in NORMALISER},
        "normaliser": {n: online[n] for n in NORMALISER},
        "normaliser of the target": {n: target[n] for n in NORMALISER},
        "optimizer": learner.moments(),
        "replay": algorithm.replay.contents(),
        "chance of replay": str(algorithm.replay.chance.bit_generator.state),
        "environments": runner.obs,
        "chance of exploration": str(runner.chance.bit_generator.state),
        "lr": algorithm.schedule.lrs(np.arange(16, LENGTH)).tolist(),
        "exploration": algorithm.schedule.epsilons(np.arange(16, LENGTH)).tolist(),
        "steps taken": (algorithm.env_steps, algorithm.at, learner.step),
    }


def hashed(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return str({name: hashed(part) for name, part in thing.items()})
    if isinstance(thing, Tensor | np.ndarray):
        return hashlib.sha256(np.asarray(thing).tobytes()).hexdigest()
    return str(thing)


SEEN = {"replay", "normaliser", "normaliser of the target"}
"""What other steps before the first update change."""

RESETS = {
    ("optimizer=kept",): {"optimizer"},
    ("replay=kept",): {"replay"},
    ("replay=kept", "learning_starts=skipped"): {
        *SEEN, "environments", "chance of exploration", "steps taken",
    },
    ("replay=prefilled",): {*SEEN, "environments"},
    ("target=previous",): {"target"},
    ("target_mask=dense",): {"target"},
    ("exploration=start",): {"exploration"},
    ("exploration=end",): {"exploration"},
    ("lr=start",): {"lr"},
    ("lr=end",): {"lr"},
    ("normaliser=rewound",): {"normaliser", "normaliser of the target"},
    ("normaliser=kept",): {"normaliser", "normaliser of the target"},
    ("env_seed=same",): {*SEEN, "environments", "chance of replay"},
    ("exploration_seed=same",): {*SEEN, "environments", "chance of exploration"},
}  # fmt: skip
"""What each change of the section changes in how a round begins, and nothing else."""


@pytest.mark.parametrize(
    ("changes", "expected"), RESETS.items(), ids=["+".join(c) for c in RESETS]
)
def test_each_reset_changes_what_it_says_and_nothing_else(trainers, changes, expected):
    plain = begun(trainers)
    reset = begun(trainers, *(f"reset.{change}" for change in changes))
    assert {name for name in plain if plain[name] != reset[name]} == expected


def test_the_dense_round_begins_alike_whatever_is_reset(trainers):
    weights = trainers(*RESETTABLE).initial(0)
    every = Masks.dense(weights, trainers(*RESETTABLE).prunable(biases=True).names)
    whole = Ticket(weights=weights, masks=every, unmasked=weights)
    fields = {"clock": 0, "previous": None, "ticket": whole, "data_seed": 5}
    plain = begun(trainers, **fields)
    for changes in RESETS:
        assert begun(trainers, *(f"reset.{c}" for c in changes), **fields) == plain, changes


def test_by_default_a_round_begins_fresh_at_its_clock(trainers):
    found = state(trainers)
    trainer = trainers(*RESETTABLE)
    pruned = start(trainer).ticket
    for name in ("online", "target"):
        assert found[name].keys() == pruned.weights.keys() - set(NORMALISER)
        assert all(torch.equal(found[name][n], pruned.weights[n]) for n in found[name])
    assert found["optimizer"] == {}
    assert found["steps taken"] == (64, 16, 16)
    assert len(found["replay"]["actions"]) == 64
    assert found["normaliser"]["obs_count"] == 64
    seen = found["replay"]["next_obs"].astype(np.float64)
    assert found["normaliser"]["obs_mean"].numpy() == pytest.approx(seen.mean(axis=0), rel=1e-5)
    assert found["normaliser"]["obs_var"].numpy() == pytest.approx(seen.var(axis=0), rel=1e-4)
    assert found["lr"][0] == pytest.approx(0.01 * (1 - 0.5 * 16 / 64))
    assert found["exploration"][0] == pytest.approx(0.05 + 0.95 * 0.5)


def test_kept_moments_are_those_of_the_round_before_and_none_where_pruned(trainers):
    found = state(trainers, "reset.optimizer=kept")["optimizer"]
    trainer = trainers(*RESETTABLE)
    masks = start(trainer).ticket.masks
    left = carried(trainer).carried
    assert len(found) == 3 * len(masks)
    for key, moment in found.items():
        kind, _, name = key.partition(".")
        expected = left[f"optimizer.{key}"]
        if kind != "step":
            assert (bits(moment)[~masks[name]] == 0).all()
            expected = expected * masks[name]
        assert torch.equal(moment, expected), key


def test_a_kept_buffer_is_the_one_before_and_new_steps_come_after_it(trainers):
    empty = state(trainers)["replay"]
    again = state(trainers, "reset.replay=kept")["replay"]
    skipped = state(trainers, "reset.replay=kept", "reset.learning_starts=skipped")
    left = carried(trainers(*RESETTABLE)).carried
    for name, part in skipped["replay"].items():
        assert np.array_equal(part, left[f"replay.{name}"].numpy()), name
        assert np.array_equal(again[name][:30], part), name
        assert np.array_equal(again[name][30:], empty[name]), name
    assert skipped["steps taken"] == (0, 16, 16)
    assert skipped["normaliser"]["obs_count"] == 0


def test_a_prefilled_buffer_holds_the_play_of_the_agent_before(trainers):
    """Greedy but for the last share of exploration; random play has about as many of each."""
    trainer = trainers(*RESETTABLE)
    weights = trainer.initial(11)
    for name, tensor in weights.items():
        if name not in NORMALISER:
            tensor.zero_()
    weights["head.bias"][1] = 1.0
    always_1 = Previous(weights=weights, carried={})
    shares = [
        state(trainers, change, previous=always_1)["replay"]["actions"].mean()
        for change in ("reset.replay=prefilled", "reset.replay=empty")
    ]
    assert shares[0] > 0.9
    assert 0.25 < shares[1] < 0.75


def test_a_target_is_the_trained_network_before_masked_or_with_what_was_pruned(trainers):
    trainer = trainers(*RESETTABLE)
    masks, rewound = start(trainer).ticket.masks, start(trainer).ticket.unmasked
    before = carried(trainer).weights
    for changes, expected in {
        ("target=previous",): apply_mask(before, masks),
        ("target_mask=dense",): rewound,
        ("target=previous", "target_mask=dense"): before,
    }.items():
        found = state(trainers, *(f"reset.{change}" for change in changes))["target"]
        assert all(torch.equal(found[name], expected[name]) for name in found), changes


def test_statistics_are_of_the_rewind_point_or_of_the_round_before(trainers):
    """The 64 observations of random play are merged into the 500, or 1000, of these."""
    for where, count in (("rewound", 564), ("kept", 1064), ("fresh", 64)):
        found = state(trainers, f"reset.normaliser={where}")
        assert found["normaliser"]["obs_count"] == count
        for name in NORMALISER:
            assert torch.equal(found["normaliser"][name], found["normaliser of the target"][name])


def test_the_dense_rounds_chance_is_that_of_its_own_start(trainers):
    """With env_seed and exploration_seed both same, a round sees the dense round's chance."""
    same = ("reset.env_seed=same", "reset.exploration_seed=same")
    again, trunk = begun(trainers, *same), begun(trainers, data_seed=5)
    for name in ("replay", "chance of replay", "environments", "chance of exploration"):
        assert again[name] == trunk[name], name


def test_a_round_leaves_the_round_after_what_it_is_to_keep(trainers, fresh):
    """Priorities too, which belong to their transitions; and it trains as if it left nothing."""
    kept = ("optimizer=kept", "replay=kept", "learning_starts=skipped")
    trainer = fresh(*VARIANTS["prioritised"], *(f"reset.{change}" for change in kept))
    outcome = trainer.train(dense(trainer))
    replay, moments = trainer.algorithm.replay, trainer.algorithm.moments()
    after = Previous(weights=outcome.weights, carried=outcome.carried)
    trainer.begin(dense(trainer, previous=after))
    assert trainer.algorithm.replay is not replay
    assert len(np.unique(replay.contents()["priorities"])) > 100, "each has that of its error"
    assert hashed(trainer.algorithm.replay.contents()) == hashed(replay.contents())
    assert digest(trainer.algorithm.moments()) == digest(moments)

    plain = trainers(*VARIANTS["prioritised"])
    left = plain.train(dense(plain))
    assert left.carried == {}
    assert digest(left.weights) == digest(outcome.weights)


# Experience


@pytest.mark.parametrize("n_step", [1, 3])
def test_transitions_are_within_episodes_and_bootstrap_where_they_are_cut_off(fresh, n_step):
    """On a ladder of 5 rungs, each worth its number, whose episodes tell who they are."""
    trainer = fresh(
        "trainer.env=tests.games:ladder", f"trainer.n_step={n_step}", "trainer.gamma=0.5"
    )
    trainer.begin(start(trainer))
    trainer.algorithm.advance(8)
    held = trainer.algorithm.replay.contents()
    ends: dict[float, set[bool]] = {}
    rows = zip(*(held[name] for name in held), strict=True)
    for obs, _, reward, after, terminated, n in rows:
        episode, rung = float(obs[0]), int(obs[1])
        assert after[0] == obs[0], "no transition leads from one episode into the next"
        assert n == min(n_step, 5 - rung)
        assert after[1] == rung + n
        assert reward == sum(0.5**i * (rung + 1 + i) for i in range(int(n)))
        if after[1] == 5:
            ends.setdefault(episode, set()).add(bool(terminated))
        else:
            assert not terminated
    assert {frozenset(found) for found in ends.values()} == {frozenset({True}), frozenset({False})}
    pending = 4 * (n_step - 1)
    assert 80 - pending <= trainer.algorithm.replay.size <= 80
    assert trainer.algorithm.env_steps == 64 + 16
    returns = trainer.algorithm.returns
    assert len(returns) == 4 * (20 // 5)
    assert set(returns) == {15.0}


@pytest.mark.parametrize("change", ["trainer.priority=0.6", "trainer.normalise=true"])
def test_rollouts_too_short_for_a_whole_transition_are_trained_through(fresh, change):
    """After an episode of one lane ends, n steps pass before there is anything to learn from."""
    trainer = fresh(
        "trainer.env=tests.games:ladder", change, "trainer.envs=1", "trainer.n_step=4",
        "trainer.rollout=1", "trainer.updates=1", "trainer.learning_starts=30",
    )  # fmt: skip
    outcome = trainer.train(start(trainer))
    assert outcome.scores.env_steps == 30 + LENGTH
    assert all(tensor.isfinite().all() for tensor in outcome.weights.values())
    assert trainer.algorithm.replay.size == 30 + LENGTH - 3, "but those of an episode under way"


def test_every_lane_has_a_chance_of_its_own_whatever_runner_it_is_in(trainers):
    two = trainers(*PLACES["2-runners-2-learners"])
    two.begin(start(two))
    lanes = np.concatenate(two.algorithm.on_runners(lambda runner: runner.env.reset()))
    assert len(np.unique(lanes, axis=0)) == 8


# Measurements, snapshots and stops


def test_the_schedules_shrink_with_the_round(trainers, monkeypatch):
    trainer = trainers(*RESETTABLE)
    trainer.study = parse_sweep(SWEEP, overrides=RESETTABLE)
    seen: dict[str, list] = {"lrs": [], "epsilons": []}

    def learn(learner, batches, lrs, last_counts, plain=TicketLearner.learn):
        seen["lrs"] += lrs
        return plain(learner, batches, lrs, last_counts)

    def collect(runner, epsilons, weights=None, plain=TransitionRunner.collect):
        seen["epsilons"] += list(epsilons)
        return plain(runner, epsilons, weights)

    monkeypatch.setattr(TicketLearner, "learn", learn)
    monkeypatch.setattr(TransitionRunner, "collect", collect)
    outcome = trainer.train(start(trainer, end=32, length=32))
    assert outcome.scores.steps == 32
    assert seen["lrs"] == pytest.approx([0.01 * (1 - 0.5 * step / 32) for step in range(32)])
    random_play, rest = seen["epsilons"][:16], seen["epsilons"][16:]
    assert random_play == [1.0] * 16
    assert rest == pytest.approx([max(0.05, 1 - 0.95 * step / 16) for step in range(0, 32, 2)])


def test_a_clock_in_the_middle_trains_what_is_left(trainers):
    trainer = trainers()
    outcome = trainer.train(start(trainer, clock=21, keep=(21, 37)))
    assert outcome.scores.steps == LENGTH - 21
    assert outcome.scores.env_steps == 64 + math.ceil((LENGTH - 21) / 8) * 16
    assert [p.step for p in outcome.curve if p.split == "eval"] == [32, 48, 64]
    assert set(outcome.digests) == {32, 48, 64}
    assert digest(outcome.snapshots[21]) == digest(start(trainer).ticket.weights)
    assert digest(outcome.snapshots[37]) == digest(
        trainer.train(start(trainer, clock=21, end=37)).weights
    )


def test_fine_tuning_goes_on_past_the_end(trainers):
    trainer = trainers()
    outcome = trainer.train(start(trainer, clock=LENGTH, end=LENGTH + 24))
    assert outcome.scores.steps == 24
    assert [p.step for p in outcome.curve if p.split == "eval"] == [80, 88]


def test_scores_are_made_of_the_measurements(trainers):
    trainer = trainers()
    outcome = trainer.train(start(trainer))
    values = [p.value for p in outcome.curve if p.split == "eval"]
    losses = [p.value for p in outcome.curve if (p.split, p.metric) == ("train", "loss")]
    scores = outcome.scores
    assert len(values) == 4
    assert scores.score_best == max(values)
    assert scores.score_area == sum(values) / 4
    assert scores.score_late == values[-1]
    assert scores.loss == losses[-1]
    assert scores.train_score == sum(trainer.algorithm.returns) / len(trainer.algorithm.returns)
    way, end = trainer.arenas
    trainer.net.load_state_dict(dict(outcome.weights))
    assert scores.score == sum(episode.total for episode in end.play(greedy(trainer.net))) / 3
    assert values[-1] == sum(episode.total for episode in way.play(greedy(trainer.net))) / 2


@pytest.mark.parametrize("evaluate", ["full", "at-stop"])
def test_masks_are_looked_at_at_target_syncs_alone(trainers, evaluate):
    """Every 10 updates, between measurements; the third in a row that is the same settles it."""
    trainer = trainers(*SYNCS)
    changes = ("stop.rule=mask-distance", "stop.window=3", f"stop.evaluate={evaluate}")
    trainer.study = parse_sweep(SWEEP, overrides=(*SYNCS, *changes))
    masks = start(trainer).ticket.masks
    given: list[Weights] = []

    def next_masks(weights: Weights) -> Masks:
        given.append(weights)
        return masks

    outcome = trainer.train(start(trainer, next_masks=next_masks, keep=(0,)))
    trainer.study = parse_sweep(SWEEP, overrides=SYNCS)
    shorter = [trainer.train(start(trainer, end=end, keep=(0,))) for end in (10, 20, 30)]
    assert [digest(weights) for weights in given] == [digest(o.weights) for o in shorter]
    assert (outcome.scores.stopped_by, outcome.scores.stop_step) == ("mask-distance", 30)
    assert outcome.stopped is not None
    assert digest(outcome.stopped) == digest(given[-1])
    assert outcome.scores.score_at_stop == shorter[-1].scores.score
    measured = [p.step for p in outcome.curve if p.split == "eval"]
    if evaluate == "full":
        assert measured == [16, 32, 48, 64]
        whole = trainer.train(start(trainer, keep=(0,)))
        assert digest(outcome.weights) == digest(whole.weights)
        assert outcome.curve == whole.curve
        assert outcome.digests == whole.digests
    else:
        assert measured == [16, 30]
        assert outcome.scores.steps == 30
        assert outcome.scores.score == outcome.scores.score_at_stop
        assert outcome.curve == shorter[-1].curve


# What goes wrong, and what is left behind


@pytest.mark.parametrize("runners", [0, 1])
def test_an_environment_that_fails_is_named_and_the_trainer_is_of_use_again(fresh, runners):
    trainer = fresh(
        "trainer.env=tests.games:ladder", "trainer.env_args={top: 6, fails_at: 23}",
        "eval.every=64it", f"trainer.runners={runners}",
    )  # fmt: skip
    with pytest.raises(TrainingError) as caught:
        trainer.train(start(trainer))
    assert str(caught.value).splitlines()[0] == (
        "the environment tests.games:ladder failed at its step 23: ValueError: a rung broke"
    )
    if runners:
        assert 'raise ValueError("a rung broke")' in str(caught.value.__cause__)
        assert "games.py" in str(caught.value.__cause__)
    else:
        assert isinstance(caught.value.__cause__, ValueError)
        # 16 steps of each lane come before the first update, and two rollouts of 3 after it.
        assert trainer.train(start(trainer, end=8)).scores.steps == 8


def test_a_process_that_fails_is_never_trained_without(trainers):
    """RLlib goes on with those that are left, and says nothing."""
    with closing(trainers.take(*PLACES["0-runners-1-learners"])) as trainer:
        trainer.begin(start(trainer))

        def fail(learner):
            raise ZeroDivisionError("the learner's own words")

        with pytest.raises(ZeroDivisionError, match="the learner's own words"):
            trainer.algorithm.on_learners(fail)
        with pytest.raises(TrainingError, match="1 of 1 learners failed before"):
            trainer.algorithm.advance(8)


def test_a_diverged_training_says_what_to_lower(fresh):
    trainer = fresh("trainer.lr=1.0e+30")
    with pytest.raises(TrainingError, match=r"the training loss became \w+ by step 16: lower"):
        trainer.train(start(trainer))


def test_an_algorithm_makes_no_folder(fresh, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(home))
    trainer = fresh()
    trainer.train(start(trainer, end=8))
    trainer.close()
    assert not home.exists()


def test_memory_stays_flat_over_rounds(trainers):
    trainer = trainers(*RICH)
    for _ in range(5):
        trainer.train(start(trainer, end=16))
    gc.collect()
    before = resident()
    for _ in range(20):
        trainer.train(start(trainer, end=16))
    gc.collect()
    assert resident() - before < 40 * 2**20


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_after_a_close_no_process_is_left(trainers):
    trainers(*PLACES["2-runners-2-learners"])
    assert len(alive()) >= 4
    trainers.close()
    assert soon(lambda: not alive())


def alive() -> list[str]:
    """The actors that Ray holds."""
    found = actors().values()
    return [actor["ActorClassName"] for actor in found if actor["State"] != "DEAD"]


def soon(true: Callable[[], bool]) -> bool:
    for _ in range(300):
        if true():
            return True
        time.sleep(0.1)
    return False
