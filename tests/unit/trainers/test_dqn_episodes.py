"""Greedy episodes: the same starts for every agent, played the same way every time."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from raylottery.errors import TrainingError
from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn import envs, nets
from raylottery.trainers.dqn.episodes import Arena, Episode, evaluation_seeds, greedy


SEEDS = evaluation_seeds(6)


def spec(env: str = "CartPole-v1", **fields) -> DQNTrainer:
    fields = {"kind": "dqn", "env": env, "length": "100it", "hidden": [16], **fields}
    return DQNTrainer.model_validate(fields)


def agent(seed: int, spec: DQNTrainer) -> nets.QNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.build(spec, envs.spaces(spec))


def balancing() -> nets.QNet:
    """An agent that pushes towards where the pole falls, and so keeps it up for a while."""
    net = agent(0, spec())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.get_parameter("body.0.weight")[0] = torch.tensor([0.0, 0.0, 1.0, 0.5])
        net.get_parameter("head.weight")[1, 0] = 1.0
        net.get_parameter("head.bias")[0] = 0.01
    return net


def played(spec: DQNTrainer, net: nets.QNet, seeds=SEEDS) -> list[Episode]:
    with closing(Arena(spec, seeds)) as arena:
        return arena.play(greedy(net))


def test_the_starts_are_fixed_distinct_and_a_longer_list_only_adds_some():
    assert evaluation_seeds(3) == evaluation_seeds(20)[:3]
    assert len(set(evaluation_seeds(200))) == 200
    assert all(0 <= seed < 2**31 for seed in evaluation_seeds(200))


def test_equal_agents_play_equal_episodes_from_equal_starts():
    net = balancing()
    episodes = played(spec(), net)
    assert episodes == played(spec(), net)
    assert len({episode.total for episode in episodes}) > 1, "the starts differ"
    assert [episode.seed for episode in episodes] == SEEDS


def test_an_arena_plays_again_as_a_new_one_whoever_played_in_between():
    net, other = balancing(), agent(5, spec())
    with closing(Arena(spec(), SEEDS)) as arena:
        first = arena.play(greedy(net))
        between = arena.play(greedy(other))
        assert arena.play(greedy(net)) == first
        assert arena.play(greedy(other)) == between != first


def test_playing_neither_reads_nor_moves_the_global_random_state():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"]
    first = played(spec(), balancing())
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])
    torch.manual_seed(4)
    assert played(spec(), balancing()) == first


def test_an_episode_is_the_one_that_is_played_by_hand():
    net = balancing()
    for episode in played(spec(), net, SEEDS[:2]):
        env = envs.make(spec())
        obs, _ = env.reset(seed=episode.seed)
        total, steps, over = 0.0, 0, False
        while not over:
            action = int(net(torch.from_numpy(obs[None])).argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            total, steps, over = total + float(reward), steps + 1, terminated or truncated
        env.close()
        assert (episode.total, episode.steps) == (total, steps)


def test_a_total_is_undiscounted_and_an_episode_that_is_cut_off_is_over():
    ladder = spec("tests.games:ladder", env_args={"top": 4}, gamma=0.5)
    for episode in played(ladder, agent(0, ladder)):
        assert (episode.total, episode.steps) == (1 + 2 + 3 + 4, 4)


def test_an_agent_acts_greedily_and_nothing_is_kept_for_gradients():
    net = agent(1, spec())
    obs = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    actions = greedy(net)(obs)
    assert actions.tolist() == net(torch.from_numpy(obs)).argmax(dim=1).tolist()
    assert set(actions.tolist()) == {0, 1}
    assert all(parameter.grad is None for parameter in net.parameters())


def test_an_environment_that_fails_is_named_with_its_step_and_seed():
    broken = spec("tests.games:ladder", env_args={"top": 9, "fails_at": 7})
    with pytest.raises(TrainingError) as caught:
        played(broken, agent(0, broken))
    assert str(caught.value).splitlines()[0] == (
        f"the environment tests.games:ladder failed at step 7 of the greedy episode of seed "
        f"{SEEDS[0]}: ValueError: a rung broke"
    )
    assert isinstance(caught.value.__cause__, ValueError)
