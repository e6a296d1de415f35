"""What a round of the compiled engine begins with, as the sweep's `reset` section says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raylottery.pruning import apply_mask
from raylottery.trainers.base import Previous
from raylottery.trainers.dqn.compiled import CompiledDQN, layers, loops, tables
from tests.unit.trainers.dqn_compiled.agents import (
    LENGTH,
    dense,
    start,
    trainer_of,
)


FALLING = "trainer.lr_end=0.5"
RESETS = {
    ("optimizer=kept",): {"optimizer"},
    ("replay=kept",): {"replay"},
    ("replay=kept", "learning_starts=skipped"): {
        "replay", "environments", "chance of environments", "steps taken",
    },
    ("replay=prefilled",): {"replay", "environments", "chance of environments"},
    ("target=previous",): {"target"},
    ("target_mask=dense",): {"target"},
    ("exploration=start",): {"exploration"},
    ("exploration=end",): {"exploration"},
    ("lr=start",): {"lr"},
    ("lr=end",): {"lr"},
    ("env_seed=same",): {
        "replay", "environments", "chance of environments", "chance of replay",
    },
    ("exploration_seed=same",): {
        "replay", "environments", "chance of environments", "chance of exploration",
    },
}  # fmt: skip
"""What each change of the section changes in how a round begins, and nothing else."""


def carried(trainer: CompiledDQN) -> Previous:
    """What a round before may have left: its weights, its buffer and its moments."""
    weights = trainer.initial(11)
    chance = torch.Generator().manual_seed(2)
    parts = {
        "obs": torch.randn(30, 4, generator=chance),
        "actions": torch.randint(2, (30,), generator=chance),
        "rewards": torch.randn(30, generator=chance),
        "next_obs": torch.randn(30, 4, generator=chance),
        "terminateds": torch.rand(30, generator=chance) < 0.3,
        "n_step": torch.ones(30),
    }
    kept = {f"replay.{name}": tensor for name, tensor in parts.items()}
    for name, tensor in weights.items():
        kept[f"optimizer.exp_avg.{name}"] = torch.rand(tensor.shape, generator=chance)
        kept[f"optimizer.exp_avg_sq.{name}"] = torch.rand(tensor.shape, generator=chance)
        kept[f"optimizer.step.{name}"] = torch.tensor(50.0)
    return Previous(weights=weights, carried=kept)


def state(*changes: str, **fields: Any) -> dict[str, Any]:
    """All that a round has when it has just begun."""
    trainer = trainer_of(FALLING, *changes)
    trainer.begin(start(trainer, **{"clock": 16, "previous": carried(trainer), **fields}))
    agent, steps = trainer.agent, np.arange(16, LENGTH)
    counters = agent.counters
    return {
        "online": agent.weights(),
        "target": layers.named(trainer.spec, agent.target),
        "optimizer": agent.moments(),
        "replay": agent.contents(),
        "chance of replay": (counters[tables.REPLAY], counters[tables.DRAWN]),
        "environments": agent.play.frames[:, tables.SEEN],
        "chance of environments": agent.game.streams,
        "chance of exploration": counters[tables.EXPLORE],
        "lr": agent.schedule.lrs(steps),
        "exploration": agent.schedule.epsilons(steps),
        "steps taken": (agent.env_steps, agent.at),
    }


def begun(*changes: str, **fields: Any) -> dict[str, str]:
    return {name: hashed(thing) for name, thing in state(*changes, **fields).items()}


def hashed(thing: Any) -> str:
    if isinstance(thing, Mapping):
        return str({name: hashed(part) for name, part in thing.items()})
    if isinstance(thing, Tensor | np.ndarray):
        return hashlib.sha256(np.asarray(thing).tobytes()).hexdigest()
    return str(thing)


@pytest.mark.parametrize(
    ("changes", "expected"), RESETS.items(), ids=["+".join(c) for c in RESETS]
)
def test_each_reset_changes_what_it_says_and_nothing_else(changes, expected) -> None:
    plain = begun()
    reset = begun(*(f"reset.{change}" for change in changes))
    found = {name for name in plain if plain[name] != reset[name]}
    # A stream of chance is at another place after an episode more or less.
    assert found | {"chance of environments"} == expected | {"chance of environments"}


def test_the_dense_round_begins_alike_whatever_is_reset() -> None:
    fields = {"clock": 0, "previous": None, "ticket": dense(trainer_of()), "data_seed": 5}
    plain = begun(**fields)
    for changes in RESETS:
        assert begun(*(f"reset.{c}" for c in changes), **fields) == plain, changes


def test_by_default_a_round_begins_fresh_at_its_clock() -> None:
    found = state()
    pruned = start(trainer_of(FALLING)).ticket
    for name in ("online", "target"):
        assert found[name].keys() == pruned.weights.keys()
        assert all(torch.equal(found[name][n], pruned.weights[n]) for n in found[name])
    assert not any(moment.any() for moment in found["optimizer"].values())
    assert found["steps taken"] == (64, 16)
    assert len(found["replay"]["actions"]) == 64
    assert found["lr"][0] == pytest.approx(0.01 * (1 - 0.5 * 16 / 64))
    assert found["exploration"][0] == pytest.approx(0.05 + 0.95 * 0.5)


def test_kept_moments_are_those_of_the_round_before_and_none_where_pruned() -> None:
    found = state("reset.optimizer=kept")["optimizer"]
    trainer = trainer_of()
    masks, left = start(trainer).ticket.masks, carried(trainer).carried
    assert len(found) == 3 * len(masks)
    for key, moment in found.items():
        kind, _, name = key.partition(".")
        expected = left[f"optimizer.{key}"]
        assert torch.equal(moment, expected if kind == "step" else expected * masks[name]), key


def test_a_kept_buffer_is_the_one_before_and_new_steps_come_after_it() -> None:
    empty = state()["replay"]
    again = state("reset.replay=kept")["replay"]
    skipped = state("reset.replay=kept", "reset.learning_starts=skipped")
    left = carried(trainer_of()).carried
    for name, part in skipped["replay"].items():
        assert part.dtype == left[f"replay.{name}"].dtype
        assert torch.equal(part, left[f"replay.{name}"]), name
        assert torch.equal(again[name][:30], part), name
        assert torch.equal(again[name][30:], empty[name]), name
    assert skipped["steps taken"] == (0, 16)


def test_a_prefilled_buffer_holds_the_play_of_the_agent_before() -> None:
    """Greedy but for the last share of exploration; random play has about as many of each."""
    weights = trainer_of().initial(11)
    for tensor in weights.values():
        tensor.zero_()
    weights["head.bias"][1] = 1.0
    always_1 = Previous(weights=weights, carried={})
    shares = [
        state(change, previous=always_1)["replay"]["actions"].float().mean()
        for change in ("reset.replay=prefilled", "reset.replay=empty")
    ]
    assert shares[0] > 0.9
    assert 0.25 < shares[1] < 0.75


def test_a_target_is_the_trained_network_before_masked_or_with_what_was_pruned() -> None:
    trainer = trainer_of()
    masks, rewound = start(trainer).ticket.masks, start(trainer).ticket.unmasked
    before = carried(trainer).weights
    for changes, expected in {
        ("target=previous",): apply_mask(before, masks),
        ("target_mask=dense",): rewound,
        ("target=previous", "target_mask=dense"): before,
    }.items():
        found = state(*(f"reset.{change}" for change in changes))["target"]
        assert all(torch.equal(found[name], expected[name]) for name in found), changes


def test_the_dense_rounds_chance_is_that_of_its_own_start() -> None:
    again = begun("reset.env_seed=same", "reset.exploration_seed=same")
    trunk = begun(data_seed=5)
    for name in ("replay", "chance of replay", "environments", "chance of exploration"):
        assert again[name] == trunk[name], name


def test_a_round_leaves_the_round_after_what_it_is_to_keep() -> None:
    """And it trains as if it left nothing."""
    kept = ("optimizer=kept", "replay=kept", "learning_starts=skipped")
    trainer = trainer_of("trainer.n_step=3", *(f"reset.{change}" for change in kept))
    outcome = trainer.train(start(trainer, ticket=dense(trainer)))
    replay, moments = (hashed(part()) for part in (trainer.agent.contents, trainer.agent.moments))
    after = Previous(weights=outcome.weights, carried=outcome.carried)
    trainer.begin(start(trainer, ticket=dense(trainer), previous=after))
    assert hashed(trainer.agent.contents()) == replay
    assert hashed(trainer.agent.moments()) == moments

    plain = trainer_of("trainer.n_step=3")
    left = plain.train(start(plain, ticket=dense(plain)))
    assert left.carried == {}
    assert hashed(left.weights) == hashed(outcome.weights)


def test_schedules_shrink_with_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(FALLING)
    seen: dict[str, list[float]] = {"lrs": [], "epsilons": []}

    def train(*arguments, plain=loops.train):
        *_, epsilons, lrs, _ = arguments
        seen["lrs"] += lrs.tolist()
        seen["epsilons"] += epsilons.ravel().tolist()
        plain(*arguments)

    assert trainer.agent  # which has compiled it by now
    monkeypatch.setattr(loops, "train", train)
    outcome = trainer.train(start(trainer, end=32, length=32))
    assert outcome.scores.steps == 32
    assert seen["lrs"] == pytest.approx([0.01 * (1 - 0.5 * step / 32) for step in range(32)])
    expected = [max(0.05, 1 - 0.95 * step / 16) for step in range(0, 32, 2)]
    assert seen["epsilons"] == pytest.approx(expected)
