"""Pruned weights are nothing at all: plus zero at every step, in both networks, and counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raylottery.kernel import plan
from raylottery.trainers.base import Previous
from raylottery.trainers.dqn.compiled import layers, tables
from tests.unit.trainers.dqn_compiled.agents import (
    dense,
    masks_of,
    start,
    ticket,
    trainer_of,
)


VARIANTS = {
    "plain": (),
    "decay-and-clip": ("trainer.weight_decay=0.1", "trainer.clip=0.01"),
    "hard-target": ("trainer.target_every=8it", "trainer.tau=1.0"),
    "dueling": ("trainer.dueling=true", "trainer.double=false", "trainer.n_step=3"),
    "two-hidden": ("trainer.hidden=[40, 30]",),
}
HELD = ("reset.optimizer=kept",)


def bits(array: np.ndarray) -> np.ndarray:
    """Of which +0.0 alone has none."""
    assert array.dtype == np.float32
    return array.view(np.int32)


@pytest.mark.parametrize("density", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_pruned_weights_are_plus_zero_after_every_update(variant: str, density: float) -> None:
    trainer = trainer_of(*VARIANTS[variant], *HELD)
    trainer.train(start(trainer, ticket=dense(trainer), end=16))
    masks = masks_of(trainer.initial(0), trainer, density)
    pruned = start(trainer, ticket=ticket(trainer, masks))
    trainer.begin(pruned)
    agent = trainer.agent
    for step in range(1, 25):
        agent.advance(step)
        assert agent.count_revived() == 0
        target = layers.named(trainer.spec, agent.target)
        moments = agent.moments()
        for name, mask in masks.items():
            for tensor in (
                *(agent.weights()[name], target[name]),
                *(moments[f"exp_avg.{name}"], moments[f"exp_avg_sq.{name}"]),
            ):
                assert not bits(tensor.numpy())[~mask.numpy()].any(), (step, name)

    outcome = trainer.train(pruned)
    assert outcome.revived == 0
    for name, mask in masks.items():
        assert not bits(outcome.weights[name].numpy())[~mask.numpy()].any()
    moved = {n: (outcome.weights[n] != pruned.ticket.weights[n]) & m for n, m in masks.items()}
    assert sum(map(torch.count_nonzero, moved.values())) > masks.kept / 10, "the others are alive"


def test_masks_that_are_not_held_are_found_out() -> None:
    """Or a count of 0 would tell nothing."""
    trainer = trainer_of("trainer.hidden=[40, 30]")
    masks = masks_of(trainer.initial(0), trainer, 0.9)
    masked = start(trainer, ticket=ticket(trainer, masks))
    trainer.begin(masked)
    trainer.agent.net.packed.plan[:, [plan.MASK, plan.BIAS_MASK]] = -1
    trainer.agent.advance(1)
    alone = trainer.agent.net.strays()
    assert alone > 0
    assert trainer.agent.count_revived() > alone, "in the target too, which is mixed from it"

    def unheld(beginning, plain=trainer.agent.take_networks):
        plain(beginning)
        trainer.agent.net.packed.plan[:, [plan.MASK, plan.BIAS_MASK]] = -1

    trainer.agent.take_networks = unheld
    assert trainer.train(masked).revived > 0


def test_a_target_with_what_was_pruned_acts_with_it_and_forgets_it() -> None:
    """It is mixed with the masked network, whose pruned weights are zero."""
    trainer = trainer_of("reset.target_mask=dense", "trainer.tau=0.5")
    pruned = start(trainer)
    masks = pruned.ticket.masks
    trainer.begin(pruned)
    agent = trainer.agent
    begun = layers.named(trainer.spec, agent.target)
    assert all(torch.equal(begun[n], pruned.ticket.unmasked[n]) for n in begun)
    agent.advance(1)
    after = layers.named(trainer.spec, agent.target)
    for name, mask in masks.items():
        assert torch.equal(after[name][~mask], begun[name][~mask] / 2)
        online = agent.weights()[name][mask]
        torch.testing.assert_close(after[name][mask], (begun[name][mask] + online) / 2)
    plain = trainer_of("trainer.tau=0.5")
    plain.begin(pruned)
    plain.agent.advance(1)
    assert plain.agent.mean_loss() != agent.mean_loss()


def test_kept_moments_move_survivors_that_no_gradient_reaches() -> None:
    """As in torch, where Adam has them as any other; their size counts when masks are drawn."""
    trainer = trainer_of("trainer.hidden=[20]", *HELD, "reset.replay=empty")
    weights = trainer.initial(0)
    masks = masks_of(weights, trainer, 1.1)
    whole = {name: mask.clone() for name, mask in masks.items()}
    whole["head.weight"][:, 3] = False  # neuron 3 reaches no output, and keeps its weights
    masks = type(masks)(whole)
    carried = {}
    for name, tensor in weights.items():
        carried[f"optimizer.exp_avg.{name}"] = torch.full_like(tensor, 0.01)
        carried[f"optimizer.exp_avg_sq.{name}"] = torch.full_like(tensor, 0.01)
        carried[f"optimizer.step.{name}"] = torch.tensor(5.0)
    begun = start(
        trainer,
        ticket=ticket(trainer, masks),
        previous=Previous(weights=weights, carried=carried),
    )
    trainer.begin(begun)
    trainer.agent.advance(1)
    assert trainer.agent.counters[tables.UPDATES] == 6
    moved = trainer.agent.weights()["body.0.weight"] - begun.ticket.weights["body.0.weight"]
    # Adam's step by hand, of a gradient that is zero.
    mean, square = 0.01 * 0.9 / (1 - 0.9**6), 0.01 * 0.999 / (1 - 0.999**6)
    expected = -0.01 * mean / (square**0.5 + 1e-8)
    assert moved[3].tolist() == pytest.approx([expected] * 4, rel=1e-4)
    assert trainer.train(begun).revived == 0
