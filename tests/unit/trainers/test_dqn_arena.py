"""An arena that plays some of its episodes plays them as if it played all."""

from __future__ import annotations

from contextlib import closing

import gymnasium
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from raylottery.errors import TrainingError
from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn import envs, episodes, nets
from raylottery.trainers.dqn.episodes import Arena, evaluation_seeds, greedy


SEEDS = evaluation_seeds(7)
SHORT = {"max_episode_steps": 100}
FRAMES = {"max_num_frames_per_episode": 80}
AGENTS = {
    "dense layers": {"env": "CartPole-v1", "hidden": [33, 17]},
    "normalised": {"env": "Acrobot-v1", "normalise": True, "dueling": True, "env_args": SHORT},
    "boxes": {"env": "LunarLander-v3", "atoms": 5},
    "convolutions": {"env": "MinAtar/Seaquest-v1", "model": "minatar", "env_args": SHORT},
    "sticky actions": {"env": "MinAtar/Breakout-v1", "model": "minatar",
                       "env_args": SHORT | {"sticky_action_prob": 0.9}},
    "frames": {"env": "ALE/Assault-v5", "model": "nature", "preprocess": "atari",
               "hidden": [16], "env_args": FRAMES},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """As a trainer has it, unless it is asked for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Witness(gymnasium.Wrapper):
    """Remembers what was seen and gained in the last episode."""

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        self.seen = [obs.tobytes()]
        return obs, info

    def step(self, action):
        step = self.env.step(action)
        self.seen += [step[0].tobytes(), step[1]]
        return step


def witnessed(spec: DQNTrainer) -> Witness:
    return Witness(envs.make(spec))


def agent(spec: DQNTrainer, seed: int) -> nets.QNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.build(spec, envs.spaces(spec))


def played(arena: Arena, net: nets.QNet) -> dict[int, list]:
    """All that was seen in each episode, by its place."""
    arena.play(greedy(net))
    return {place: env.seen for place, env in arena.envs.items() if isinstance(env, Witness)}


@pytest.mark.parametrize("fields", AGENTS.values(), ids=AGENTS)
def test_an_episode_does_not_depend_on_which_others_are_played_or_were(fields):
    spec = DQNTrainer.model_validate({"kind": "dqn", "length": "100it", **fields})
    net, other = agent(spec, 3), agent(spec, 4)
    with closing(Arena(spec, SEEDS, make=witnessed)) as arena:
        every = played(arena, net)
        assert played(arena, other) != every
        assert played(arena, net) == every
    for places in ([0, 1, 2], [6], [5, 1]):
        with closing(Arena(spec, SEEDS, only=places, make=witnessed)) as arena:
            assert played(arena, net) == {place: every[place] for place in places}
            assert [episode.seed for episode in arena.play(greedy(net))] == [
                SEEDS[p] for p in places
            ]


def test_an_episode_that_never_ends_is_given_up_with_the_mend(monkeypatch):
    monkeypatch.setattr(episodes, "LONGEST", 50)
    spec = DQNTrainer.model_validate({"kind": "dqn", "env": "Acrobot-v1", "length": "100it"})

    def unlimited(spec: DQNTrainer) -> gymnasium.Env:
        return envs.make(spec).unwrapped

    def limited(spec: DQNTrainer) -> gymnasium.Env:
        return TimeLimit(unlimited(spec), 50)

    with closing(Arena(spec, SEEDS, make=limited)) as arena:
        assert {episode.steps for episode in arena.play(greedy(agent(spec, 0)))} == {50}
    with (
        closing(Arena(spec, SEEDS, make=unlimited)) as arena,
        pytest.raises(TrainingError, match=r"not ended in 50 steps: .*max_episode_steps"),
    ):
        arena.play(greedy(agent(spec, 0)))
