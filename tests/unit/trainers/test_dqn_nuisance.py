"""Agents' nuisance inputs: what is added, and that nothing else changes."""

from __future__ import annotations

from contextlib import closing

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from raylottery.errors import UsageError
from raylottery.pruning import Masks, apply_mask
from raylottery.spec import DQNTrainer, parse_sweep
from raylottery.trainers.base import Ticket
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.compiled import environments
from raylottery.trainers.dqn.lanes import Lanes
from raylottery.trainers.survey import survey
from tests.unit.trainers.dqn_compiled.agents import (
    STUDY,
    assert_same_outcome,
    start,
    trainer_of,
)


OWN = {"CartPole-v1": 4, "Acrobot-v1": 6, "FrozenLake-v1": 16, "tests.games:ladder": 2}


def spec(env: str = "CartPole-v1", **extra: float) -> DQNTrainer:
    trainer = parse_sweep(STUDY, overrides=(f"trainer.env={env}", f"trainer.nuisance={extra}"))
    assert isinstance(trainer.trainer, DQNTrainer)
    return trainer.trainer


def seen(trainer: DQNTrainer, seed: int, actions: list[int], episodes: int = 2) -> np.ndarray:
    """What an environment shows over some episodes, seeded before the first of them."""
    found = []
    with closing(envs.make(trainer)) as env:
        for episode in range(episodes):
            obs, _ = env.reset(seed=seed if episode == 0 else None)
            found.append(obs)
            for action in actions:
                obs, _, terminated, truncated, _ = env.step(action)
                found.append(obs)
                if terminated or truncated:
                    break
    return np.array(found)


@settings(deadline=None, max_examples=40)
@given(
    env=st.sampled_from([*OWN]),
    noise=st.integers(0, 5),
    duplicates=st.integers(0, 20),
    seed=st.integers(0, 2**31 - 1),
    actions=st.lists(st.integers(0, 1), max_size=20),
)
def test_own_inputs_stay_and_duplicates_are_theirs_to_the_bit(
    env, noise, duplicates, seed, actions
):
    own = OWN[env]
    plain = seen(spec(env), seed, actions)
    wide = seen(spec(env, noise=noise, duplicates=duplicates), seed, actions)
    assert wide.dtype == np.float32
    assert wide.shape == (len(plain), own + noise + duplicates)
    assert np.array_equal(wide[:, :own], plain)
    for place in range(duplicates):
        assert np.array_equal(wide[:, own + noise + place], plain[:, place % own])


def test_noise_is_a_function_of_the_seed_and_the_number_of_the_observation():
    """Whatever is done, and whichever environment it is shown beside."""
    lefts = seen(spec(noise=3), 1, [0] * 30, episodes=5)[:, 4:]
    rights = seen(spec(noise=3), 1, [1] * 30, episodes=5)[:, 4:]
    mixed = seen(spec("Acrobot-v1", noise=3), 1, [0, 1] * 15, episodes=2)[:, 6:]
    least = min(map(len, (lefts, rights, mixed)))
    assert np.array_equal(lefts[:least], rights[:least])
    assert np.array_equal(lefts[:least], mixed[:least])
    other = seen(spec(noise=3), 2, [0] * 30)[:, 4:]
    assert not np.isin(other, lefts).any()


def test_noise_is_gaussian_fresh_at_each_step_and_of_its_scale():
    drawn = seen(spec("Acrobot-v1", noise=8, scale=0.25), 3, [0] * 400, episodes=3)[:, 6:]
    assert len(np.unique(drawn)) > 0.99 * drawn.size
    assert abs(drawn.mean()) < 4 * 0.25 / np.sqrt(drawn.size)
    assert abs(drawn.std() / 0.25 - 1) < 0.05
    assert abs(np.corrcoef(drawn[1:].ravel(), drawn[:-1].ravel())[0, 1]) < 0.05
    doubled = seen(spec("Acrobot-v1", noise=8, scale=0.5), 3, [0] * 400, episodes=3)[:, 6:]
    assert np.array_equal(doubled, 2 * drawn)


def test_lanes_draw_apart_and_the_same_again():
    def run():
        with closing(Lanes(spec(noise=2), [1, 2])) as lanes:
            return [lanes.reset(), *(lanes.step([0, 1])[0] for _ in range(30))]

    one, again = run(), run()
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert all(not np.isin(obs[0, 4:], obs[1, 4:]).any() for obs in one)


def test_an_environment_that_is_never_seeded_shows_other_noise_each_time():
    drawn = []
    for _ in range(2):
        with closing(envs.make(spec(noise=2))) as env:
            drawn.append(env.reset()[0][4:])
    assert not np.isin(*drawn).any()


def test_the_network_and_its_survey_are_wider():
    sweep = parse_sweep(STUDY, overrides=("trainer.nuisance={noise: 3, duplicates: 4}",))
    assert survey(sweep).shapes["body.0.weight"] == (16, 11)
    assert envs.spaces(spec(noise=3, duplicates=4)).shape == (11,)
    assert envs.spaces(spec()).shape == (4,)


class Rows(gymnasium.Env):
    """Shows six numbers, in rows of three."""

    observation_space = Box(-np.inf, np.inf, (2, 3), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.arange(6, dtype=np.float32).reshape(2, 3), {}


def rows() -> gymnasium.Env:
    return Rows()


def test_numbers_in_rows_are_laid_out_in_one():
    trainer = spec(f"{__name__}:rows", noise=1, duplicates=2)
    assert envs.spaces(trainer).shape == (9,)
    wide = seen(trainer, 0, [], episodes=1)[0]
    assert wide[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert wide[7:].tolist() == [0, 1]


@pytest.mark.parametrize(("game", "what"), [("pictures", "images"), ("memory", "bytes")])
def test_images_and_bytes_are_refused(game, what):
    text = STUDY.replace("CartPole-v1", f"tests.games:{game}").replace("compiled", "rllib")
    study = parse_sweep(text, overrides=("trainer.nuisance={noise: 1}",))
    assert isinstance(study.trainer, DQNTrainer)
    message = rf"^trainer\.nuisance: .* tests\.games:{game} shows {what} of shape .* Leave it out"
    with pytest.raises(UsageError, match=message):
        envs.make(study.trainer)


# The compiled engine


def test_compiled_agents_train_the_same_again_with_a_mask_that_holds():
    extra = "trainer.nuisance={noise: 3, duplicates: 4}"
    outcomes = []
    for _ in range(2):
        with closing(trainer_of(extra)) as trainer:
            outcomes.append(trainer.train(start(trainer)))
            assert environments.game(trainer.spec, [0]) is None
    assert_same_outcome(*outcomes)
    assert outcomes[0].weights["body.0.weight"].shape == (16, 11)


def test_inputs_that_are_pruned_leave_an_agent_what_it_is_without_them():
    """Chance is drawn alike, whether compiled code steps the game or Python."""
    outcomes = []
    for extra in ("{}", "{noise: 3, duplicates: 4}"):
        with closing(trainer_of(f"trainer.nuisance={extra}")) as trainer:
            wide = trainer.initial(0)["body.0.weight"].shape[1] - 4
            begun = start(trainer, ticket=ignoring(wide))
            outcomes.append(trainer.train(begun))
    plain, wide = outcomes
    assert plain.scores == wide.scores
    assert list(plain.curve) == list(wide.curve)
    assert torch.equal(plain.weights["body.0.weight"], wide.weights["body.0.weight"][:, :4])


def ignoring(inputs: int) -> Ticket:
    """The ticket of an agent without nuisance, with so many inputs more that are pruned."""
    with closing(trainer_of()) as trainer:
        weights = dict(trainer.initial(0))
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for part in (weights, masks):
        first = part["body.0.weight"]
        part["body.0.weight"] = torch.cat([first, first.new_zeros(len(first), inputs)], dim=1)
    kept = Masks(masks)
    return Ticket(weights=apply_mask(weights, kept), masks=kept, unmasked=weights)
