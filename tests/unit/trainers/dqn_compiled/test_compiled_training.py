"""Whole rounds: they follow from their starts alone, and are measured as Python would do it."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from raylottery import kernel
from raylottery.errors import TrainingError, UsageError
from raylottery.spec import parse_sweep
from raylottery.spec.kernel import KERNEL_PROTOCOL
from raylottery.trainers.base import Outcome, digest
from raylottery.trainers.dqn import envs, nets
from raylottery.trainers.dqn.compiled import CompiledDQN, acting
from raylottery.trainers.dqn.compiled.layers import network
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds, greedy, play_again
from raylottery.trainers.survey import survey
from tests.unit.trainers.dqn_compiled.agents import (
    LADDER,
    LENGTH,
    STUDY,
    assert_same_outcome,
    dense,
    masks_of,
    start,
    ticket,
    trainer_of,
)


RICH = (
    "trainer.dueling=true", "trainer.n_step=3", "trainer.weight_decay=0.01", "trainer.clip=0.1",
    "reset.replay=kept", "reset.optimizer=kept",
)  # fmt: skip


# Equal starts, equal outcomes


def test_a_round_leaves_nothing_to_the_next() -> None:
    trainer = trainer_of(*RICH)
    first = trainer.train(start(trainer, keep=(0,)))
    trainer.train(start(trainer, ticket=dense(trainer)))
    trainer.train(start(trainer, clock=40, data_seed=3))
    assert_same_outcome(first, trainer.train(start(trainer, keep=(0,))))
    assert first.digests != trainer.train(start(trainer, keep=(0,), data_seed=8)).digests
    other = trainer_of(*RICH)
    torch.manual_seed(3)
    np.random.seed(3)
    assert_same_outcome(first, other.train(start(other, keep=(0,))))


def test_where_a_training_pauses_changes_no_bit() -> None:
    """In the middle of rollouts too."""
    trainer = trainer_of(*RICH)
    whole = trainer.train(start(trainer))
    trainer.begin(start(trainer))
    for step in (1, 2, 5, 11, 13, 32, 33, LENGTH):
        trainer.agent.advance(step)
    assert digest(trainer.agent.weights()) == digest(whole.weights)
    assert digest(trainer.agent.contents()) == digest(
        {k.removeprefix("replay."): t for k, t in whole.carried.items() if k.startswith("replay.")}
    )


def test_threads_change_no_bit() -> None:
    """Lineages of several shapes and densities, side by side and one after the other."""
    changes = [
        (*RICH, "trainer.length=512it", f"trainer.env={env}", f"trainer.hidden=[{width}, 20]")
        for env in ("CartPole-v1", "MountainCar-v0", "tests.games:ladder")
        for width in (24, 40)
    ]

    def train(change: tuple[str, ...]) -> Outcome:
        with closing(trainer_of(*change)) as trainer:
            masks = masks_of(trainer.initial(0), trainer, 0.3)
            return trainer.train(
                start(trainer, ticket=ticket(trainer, masks), end=512, length=512)
            )

    alone = [train(change) for change in changes]
    together: dict[int, Outcome] = {}
    threads = [
        threading.Thread(target=lambda at=at: together.update({at: train(changes[at])}))
        for at in range(len(changes))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, outcome in enumerate(alone):
        assert_same_outcome(outcome, together[at])


def test_other_threads_run_on_while_compiled_code_trains() -> None:
    """Or lineages would wait for one another: it all happens in a single call."""
    trainer = trainer_of("trainer.hidden=[128, 128]", "trainer.length=20000it", "eval.every=100%")
    trainer.begin(start(trainer, ticket=dense(trainer), end=20_000, length=20_000))
    thread = threading.Thread(target=trainer.agent.advance, args=(20_000,))
    thread.start()
    seen = set()
    while thread.is_alive():
        seen.add(trainer.agent.at)
    thread.join()
    assert len(seen) > 10, "the counters were read while they moved"


def test_initial_weights_are_those_of_the_other_engine() -> None:
    """For a seed, by the same names; whatever other threads draw meanwhile."""
    trainer = trainer_of("trainer.dueling=true")
    ours = trainer.initial(3)
    assert list(ours) == list(nets.build(trainer.spec, trainer.space).state_dict())
    torch.manual_seed(1)
    drawn: list[str] = []

    def draw() -> None:
        trainer.positions()
        trainer.total_params()
        drawn.append(digest(trainer.initial(3)))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(drawn) == {digest(ours)}
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())


# Milestones and measurements


def test_a_clock_in_the_middle_trains_what_is_left() -> None:
    trainer = trainer_of()
    outcome = trainer.train(start(trainer, clock=21, keep=(21, 37)))
    assert outcome.scores.steps == LENGTH - 21
    assert outcome.scores.env_steps == 64 + 6 * 16
    assert [p.step for p in outcome.curve if p.split == "eval"] == [32, 48, 64]
    assert set(outcome.digests) == {32, 48, 64}
    assert digest(outcome.snapshots[21]) == digest(start(trainer).ticket.weights)
    short = trainer.train(start(trainer, clock=21, end=37))
    assert digest(outcome.snapshots[37]) == digest(short.weights)


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
@pytest.mark.parametrize("dueling", ["true", "false"])
def test_scores_are_what_gymnasium_and_torch_make_of_the_same_weights(
    env: str, dueling: str
) -> None:
    trainer = trainer_of(
        f"trainer.env={env}", f"trainer.dueling={dueling}",
        "trainer.env_args={max_episode_steps: 120}", "eval.episodes=5", "eval.final=20",
    )  # fmt: skip
    outcome = trainer.train(start(trainer))
    values = [p.value for p in outcome.curve if p.split == "eval"]
    net = nets.build(trainer.spec, trainer.space)
    net.load_state_dict(dict(outcome.weights))
    for count, found in ((5, values[-1]), (20, outcome.scores.score)):
        with closing(Arena(trainer.spec, evaluation_seeds(count))) as arena:
            for act in (greedy(net), acting.greedy(trainer.spec, outcome.weights)):
                assert found == sum(episode.total for episode in arena.play(act)) / count
    scores = outcome.scores
    assert scores.score_best == max(values)
    assert scores.score_area == sum(values) / len(values)
    assert scores.score_late == values[-1]


def test_an_agent_plays_again_what_its_score_was_made_of() -> None:
    trainer = trainer_of("eval.final=4")
    outcome = trainer.train(start(trainer))
    episodes = play_again(trainer.spec, outcome.weights, 4, of=4)
    assert sum(episode.total for episode in episodes) / 4 == outcome.scores.score
    assert play_again(trainer.spec, outcome.weights, 2, of=4) == episodes[:2]


def test_pruned_and_dropped_weights_change_no_bit_of_what_acts() -> None:
    """A ticket is played from its weights alone."""
    trainer = trainer_of("trainer.hidden=[64, 64]")
    weights = trainer.initial(0)
    masks = masks_of(weights, trainer, 0.15)
    pruned = ticket(trainer, masks).weights
    obs = np.random.default_rng(0).normal(size=(37, 4)).astype(np.float32)
    values = []
    for net in (network(trainer.spec, weights, masks), network(trainer.spec, pruned, {})):
        room = net.room(37)
        room.inputs[:, :37] = obs.T
        values.append(net.forward(room)[:, :37].copy())
    np.testing.assert_array_equal(values[0], values[1])


def test_returns_and_losses_are_of_what_was_trained_since() -> None:
    trainer = trainer_of(LADDER)
    with closing(trainer):
        outcome = trainer.train(start(trainer))
    assert outcome.scores.train_score == 15.0
    losses = [p.value for p in outcome.curve if (p.split, p.metric) == ("train", "loss")]
    assert len(losses) == len(set(losses)) == 4
    assert outcome.scores.loss == losses[-1]


# Other environments


def test_bytes_are_scaled_as_the_other_engine_scales_them() -> None:
    trainer = trainer_of("trainer.env=tests.games:memory", "eval.final=3")
    with closing(trainer):
        outcome = trainer.train(start(trainer))
        obs = trainer.agent.contents()["obs"]
        assert obs.shape[1:] == (2, 3)
        assert 0 <= obs.min() < 0.1 < 0.9 < obs.max() <= 1
        net = nets.build(trainer.spec, trainer.space)
        net.load_state_dict(dict(outcome.weights))
        seen = np.random.default_rng(0).integers(256, size=(50, 2, 3)).astype(np.uint8)
        ours = acting.greedy(trainer.spec, outcome.weights)
        assert np.array_equal(ours(seen), greedy(net)(seen))


def test_an_environment_that_fails_is_named_and_the_trainer_is_of_use_again() -> None:
    trainer = trainer_of(LADDER, "trainer.env_args={top: 6, fails_at: 23}", "eval.every=64it")
    with closing(trainer):
        with pytest.raises(TrainingError) as caught:
            trainer.train(start(trainer))
        assert str(caught.value) == (
            "the environment tests.games:ladder failed at its step 23: ValueError: a rung broke"
        )
        assert trainer.train(start(trainer, end=8)).scores.steps == 8


def test_images_are_refused_when_a_sweep_is_planned() -> None:
    study = parse_sweep(STUDY, overrides=("trainer.env=tests.games:pictures",))
    with pytest.raises(UsageError, match=r"sees no images.* engine: rllib"):
        survey(study)
    rllib = parse_sweep(
        STUDY, overrides=("trainer.env=tests.games:pictures", "trainer.engine=rllib")
    )
    assert envs.spaces(rllib.trainer).shape == (1, 8, 8)  # ty: ignore[invalid-argument-type]


# What goes wrong


@pytest.mark.parametrize("env", ["CartPole-v1", "tests.games:ladder"])
def test_a_diverged_training_says_what_to_lower_and_where(env: str) -> None:
    with closing(trainer_of("trainer.lr=1.0e+30", f"trainer.env={env}")) as trainer:
        with pytest.raises(
            TrainingError, match=r"loss became \w+ by step [0-9]+: lower"
        ) as caught:
            trainer.train(start(trainer))
        assert f"by step {trainer.agent.at}:" in str(caught.value)
        assert trainer.agent.at < 16, "it ends with that update, not at the next measurement"


def test_one_lineage_that_diverges_leaves_its_neighbours_as_they_are() -> None:
    calm, wild = trainer_of(), trainer_of("trainer.lr=1.0e+30")
    alone = calm.train(start(calm))
    failed: list[Exception] = []

    def diverge() -> None:
        try:
            wild.train(start(wild))
        except TrainingError as error:
            failed.append(error)

    thread = threading.Thread(target=diverge)
    thread.start()
    beside = calm.train(start(calm))
    thread.join()
    assert len(failed) == 1
    assert_same_outcome(alone, beside)


# What it stands on


def test_the_kernels_protocol_is_in_the_keys() -> None:
    assert kernel.PROTOCOL == KERNEL_PROTOCOL
    study = trainer_of().study
    assert study.trainer.determined()["kernel"] == kernel.PROTOCOL
    rllib = parse_sweep(STUDY, overrides=("trainer.engine=rllib",))
    assert "kernel" not in rllib.trainer.determined()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("from raylottery.trainers.survey import survey; survey(study)", "numba"),
        ("from raylottery.trainers import make_trainer; make_trainer(study, gpu=False)", "ray"),
    ],
)
def test_a_plan_needs_no_numba_and_a_trainer_no_ray(code: str, absent: str) -> None:
    script = (
        "import sys\nfrom raylottery.spec import parse_sweep\n"
        f"study = parse_sweep('''{STUDY}''')\n{code}\nprint({absent!r} in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    assert found.stdout == "False\n"


def test_it_says_what_it_is() -> None:
    assert CompiledDQN.threads
    assert trainer_of().device == "cpu"
    trainer = trainer_of()
    begun = start(trainer)
    assert trainer.train(replace(begun, searching=False)).scores.steps == LENGTH
