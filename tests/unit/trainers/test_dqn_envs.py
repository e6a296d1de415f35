"""The environments: what they deliver, what is refused, and lanes that are single environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import gymnasium
import numpy as np
import pytest

from raylottery.errors import TrainingError, UsageError
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.extent import Extent
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.envs import EnvSpaces
from raylottery.trainers.dqn.lanes import Lanes


ATARI = {"env": "ALE/Breakout-v5", "preprocess": "atari", "model": "nature"}
YU = {"env": "ALE/Breakout-v5", "preprocess": "yu2020", "model": "yu2020"}
MINATAR = {"env": "MinAtar/Breakout-v1", "model": "minatar"}
OWN = '''
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete


class Toy(gymnasium.Env):
    """Counts its steps; its observations, actions and faults are as it is told."""

    def __init__(self, seen=None, actions=None, shows=None, ends=10, fails_at=None):
        self.observation_space = seen or Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = actions or Discrete(2)
        self.shows, self.ends, self.fails_at = shows, ends, fails_at
        self.count, self.total, self.taken = 0, 0, []

    def obs(self):
        if self.shows is not None:
            return self.shows
        return np.array([self.count, self.total], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fails_at == "reset" and self.total:
            raise RuntimeError("out of levels")
        self.count = 0
        return self.obs(), {}

    def step(self, action):
        self.taken.append(action)
        self.count += 1
        self.total += 1
        if self.total == self.fails_at:
            raise ZeroDivisionError("no such ball")
        return self.obs(), 1.5 * self.count, self.count == self.ends, False, {}


def image(shape=(8, 9, 3), high=255, dtype="uint8"):
    shown = np.arange(np.prod(shape)).reshape(shape) % (high + 1)
    return Toy(Box(0, high, shape, np.dtype(dtype).type), shows=shown.astype(dtype))


def states(start=0):
    return Toy(Discrete(5, start=start), shows=np.int64(start + 3))


def shifted():
    return Toy(actions=Discrete(3, start=-1))


def doubles():
    return Toy(Box(-np.inf, np.inf, (2,), np.float64), shows=np.array([0.1, 0.2]))


def dictionary():
    return Toy(Dict({"a": Discrete(2)}))


def bits():
    return Toy(MultiBinary(3))


def number():
    return Toy(Box(0, 1, (), np.float32))


def pairs():
    return Toy(actions=MultiDiscrete([2, 2]))


def misshapen():
    return Toy(shows=np.zeros(1, np.float32))


def mistyped():
    return Toy(Box(0, 255, (2,), np.uint8), shows=np.array([0.5, 0.5]))


def game():
    return gymnasium.make("ALE/Breakout-v5")


def nothing():
    pass


NUMBER = 3
'''


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of somebody's own, which none of the tests leaves behind."""
    (tmp_path / "own_envs.py").write_text(OWN)
    (tmp_path / "broken_envs.py").write_text("raise OSError('no display')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(envs, "_spaces", {})
    yield
    sys.modules.pop("own_envs", None)


def trainer(env: Any = "CartPole-v1", **fields: Any) -> DQNTrainer:
    return DQNTrainer(kind="dqn", env=env, length=Extent.parse("2000ts"), **fields)


def own(function: str, **fields) -> DQNTrainer:
    return trainer(f"own_envs:{function}", **fields)


def inner(env: gymnasium.Env) -> Any:
    """The game itself, with what it has besides the methods of all environments."""
    return env.unwrapped


def played_singly(spec: DQNTrainer, seeds, actions):
    """Lane by lane, what `Lanes` must give: stepped alone, reset where an episode ended."""
    for lane, seed in enumerate(seeds):
        env = envs.make(spec)
        first, _ = env.reset(seed=seed)
        steps = []
        for action in actions[:, lane]:
            final, reward, terminated, truncated, _ = env.step(int(action))
            obs = env.reset()[0] if terminated or truncated else final
            steps.append((obs, final, reward, terminated, truncated))
        yield first, steps


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 300),
        ({"env": "CartPole-v1", "env_args": {"max_episode_steps": 7}}, 50),
        ({"env": "Acrobot-v1", "env_args": {"max_episode_steps": 20}}, 50),
        ({"env": "LunarLander-v3"}, 300),
        ({"env": "FrozenLake-v1"}, 100),
        (MINATAR, 300),
        ({**ATARI, "env_args": {"max_num_frames_per_episode": 200}}, 60),
    ],
    ids=lambda value: value.get("env", "CartPole-v1") if isinstance(value, dict) else "",
)
def test_lanes_are_single_environments_bit_for_bit_through_their_resets(fields, count):
    spec, seeds = trainer(**fields), [3, 4, 2**62]
    actions = np.random.default_rng(0).integers(envs.spaces(spec).actions, size=(count, 3))
    lanes = Lanes(spec, seeds)
    first = lanes.reset()
    steps = [lanes.step(chosen) for chosen in actions]
    ends = sum((terminated | truncated).sum() for *_, terminated, truncated in steps)
    assert ends >= 3, "resets must be among what is compared"
    for lane, (alone_first, alone) in enumerate(played_singly(spec, seeds, actions)):
        assert np.array_equal(first[lane], alone_first)
        for together, single in zip(steps, alone, strict=True):
            for ours, theirs in zip(together, single, strict=True):
                assert np.array_equal(ours[lane], theirs)


def test_equal_seeds_give_equal_lanes_and_others_do_not():
    actions = np.random.default_rng(0).integers(2, size=(100, 4))

    def play(seeds):
        lanes = Lanes(trainer(), seeds)
        return np.stack([lanes.reset(), *(lanes.step(chosen)[0] for chosen in actions)])

    first = play([1, 2, 1, 3])
    assert np.array_equal(first, play([1, 2, 1, 3]))
    assert not np.array_equal(first, play([1, 2, 1, 4]))
    assert not np.array_equal(first[:, 0], first[:, 1])


def test_a_second_reset_goes_on_with_the_stream():
    lanes, env = Lanes(trainer(), [5]), envs.make(trainer())
    starts = [env.reset(seed=5)[0], env.reset()[0]]
    assert np.array_equal(lanes.reset()[0], starts[0])
    assert np.array_equal(lanes.reset()[0], starts[1])
    assert not np.array_equal(*starts)


def test_at_a_termination_the_successor_is_where_the_pole_fell():
    lanes = Lanes(trainer(), [0, 1])
    lanes.reset()
    for _ in range(50):
        obs, final, _, terminated, truncated = lanes.step([1, 1])
        for lane in np.flatnonzero(terminated):
            assert abs(final[lane, 2]) > 0.2095, "the pole's angle at which an episode ends"
            assert abs(obs[lane]).max() <= 0.05, "where episodes start"
        if terminated.any():
            assert not truncated.any()
            break
    else:
        pytest.fail("pushing to one side ends an episode within 50 steps")


def test_a_truncation_is_no_termination_and_its_successor_is_kept():
    spec = trainer("MountainCar-v0", env_args={"max_episode_steps": 3})
    lanes, env = Lanes(spec, [0]), envs.make(trainer("MountainCar-v0"))
    lanes.reset()
    env.reset(seed=0)
    for step in (1, 2, 3):
        obs, final, _, terminated, truncated = lanes.step([2])
        uncut = env.step(2)[0]
        assert np.array_equal(final[0], uncut)
        assert not terminated[0]
        assert truncated[0] == (step == 3)
    assert not np.array_equal(obs[0], final[0]), "the next episode has begun"


def test_the_lanes_that_go_on_are_the_same_in_both_observations():
    lanes = Lanes(trainer("MountainCar-v0", env_args={"max_episode_steps": 3}), [0, 1])
    lanes.reset()
    lanes.envs[1].step(0)
    lanes.step([0, 0])
    obs, final, _, _, truncated = lanes.step([0, 0])
    assert truncated.tolist() == [False, True]
    assert np.array_equal(obs[0], final[0])
    assert not np.array_equal(obs[1], final[1])


def test_what_lanes_hand_out_is_never_written_to_again():
    lanes = Lanes(trainer(env_args={"max_episode_steps": 5}), [0, 1])
    kept = [lanes.reset()]
    for _ in range(30):
        kept += lanes.step([0, 1])
    copies = [array.copy() for array in kept]
    for _ in range(30):
        lanes.step([1, 0])
    lanes.reset()
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_lanes_give_arrays_of_the_declared_types():
    lanes = Lanes(trainer(**MINATAR), [0, 1, 2])
    obs = lanes.reset()
    assert (obs.shape, obs.dtype) == ((3, 4, 10, 10), np.float32)
    _, final, rewards, terminated, truncated = lanes.step([0, 1, 2])
    assert (final.shape, final.dtype) == ((3, 4, 10, 10), np.float32)
    assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
    lanes.close()


def test_a_lane_for_every_action_or_it_is_an_error():
    lanes = Lanes(trainer(), [0, 1])
    lanes.reset()
    with pytest.raises(ValueError, match="argument"):
        lanes.step([0])


def test_an_exception_in_a_step_names_the_environment_the_step_and_the_cause():
    lanes = Lanes(own("Toy", env_args={"fails_at": 3}), [0])
    lanes.reset()
    lanes.step([0])
    lanes.step([0])
    with pytest.raises(
        TrainingError,
        match=r"^the environment own_envs:Toy failed at its step 3: "
        r"ZeroDivisionError: no such ball$",
    ) as raised:
        lanes.step([0])
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_exception_in_a_reset_names_the_step_before_it():
    lanes = Lanes(own("Toy", env_args={"fails_at": "reset", "ends": 2}), [0])
    lanes.reset()
    lanes.step([0])
    with pytest.raises(TrainingError, match="reset after step 2: RuntimeError: out of levels"):
        lanes.step([0])


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("misshapen", r"shape \(2,\) and type float32, but its reset returned \(1,\) and float32"),
        ("mistyped", r"shape \(2,\) and type uint8, but its reset returned \(2,\) and float64"),
    ],
)
def test_observations_other_than_declared_end_the_training(function, what):
    with pytest.raises(TrainingError, match=what):
        Lanes(own(function), [0]).reset()


def test_actions_reach_an_environment_as_plain_numbers_counted_from_its_start():
    lanes = Lanes(own("shifted"), [0, 0])
    assert lanes.space.actions == 3
    lanes.reset()
    lanes.step(np.array([0, 2]))
    taken = [inner(env).taken for env in lanes.envs]
    assert taken == [[-1], [1]]
    assert type(taken[0][0]) is int


@pytest.mark.parametrize(
    ("fields", "space"),
    [
        ({"env": "CartPole-v1"}, EnvSpaces((4,), "float32", 2)),
        ({"env": "CartPole-v0"}, EnvSpaces((4,), "float32", 2)),
        ({"env": "Acrobot-v1"}, EnvSpaces((6,), "float32", 3)),
        ({"env": "MountainCar-v0"}, EnvSpaces((2,), "float32", 3)),
        ({"env": "LunarLander-v3"}, EnvSpaces((8,), "float32", 4)),
        ({"env": "FrozenLake-v1"}, EnvSpaces((16,), "float32", 4)),
        ({"env": "own_envs:image"}, EnvSpaces((3, 8, 9), "uint8", 2)),
        ({"env": "own_envs:doubles"}, EnvSpaces((2,), "float32", 2)),
        (MINATAR, EnvSpaces((4, 10, 10), "float32", 3)),
        ({**MINATAR, "env": "MinAtar/Seaquest-v1"}, EnvSpaces((10, 10, 10), "float32", 6)),
        (ATARI, EnvSpaces((4, 84, 84), "uint8", 4)),
        (YU, EnvSpaces((4, 52, 40), "uint8", 4)),
        ({"env": "ALE/Breakout-v5", "model": "nature"}, EnvSpaces((3, 210, 160), "uint8", 4)),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_spaces_are_what_an_environment_delivers(fields, space):
    spec = trainer(**fields)
    assert envs.spaces(spec) == space
    obs, _ = envs.make(spec).reset(seed=0)
    assert (obs.shape, str(obs.dtype)) == (space.shape, space.dtype)


def test_spaces_are_found_once_for_all_trainings_in_an_environment(monkeypatch):
    made = []
    real = envs.make
    monkeypatch.setattr(envs, "make", lambda spec: made.append(spec) or real(spec))
    assert envs.spaces(trainer()) == envs.spaces(trainer(lr=0.5))
    assert len(made) == 1
    envs.spaces(trainer("Acrobot-v1"))
    assert len(made) == 2


@pytest.mark.parametrize("game", ["Breakout", "Seaquest"])  # of 4 channels, and of 10 as its rows
def test_minatar_shows_its_channels_as_zeros_and_ones_in_place(game):
    env = envs.make(trainer(f"MinAtar/{game}-v1", model="minatar"))
    env.reset(seed=0)
    obs, *_ = env.step(0)
    raw = inner(env).game.state()
    assert set(np.unique(obs)) == {0.0, 1.0}
    assert np.array_equal(obs, raw.transpose(2, 0, 1))
    assert obs.flags.c_contiguous


def test_channels_come_first_and_bytes_stay_bytes():
    env = envs.make(own("image"))
    obs, _ = env.reset()
    assert np.array_equal(obs, inner(env).shows.transpose(2, 0, 1))
    stacked = envs.make(own("image", env_args={"shape": (4, 8, 9)}))
    assert np.array_equal(stacked.reset()[0], inner(stacked).shows), "they were first already"


def test_bytes_that_do_not_use_their_range_are_numbers():
    """They would vanish in the network, which divides bytes by 255."""
    env = envs.make(own("image", env_args={"high": 1}))
    obs, _ = env.reset()
    assert obs.dtype == np.float32
    assert obs.max() == 1


@pytest.mark.parametrize("start", [0, 7])
def test_states_by_number_are_one_hot(start):
    env = envs.make(own("states", env_args={"start": start}))
    assert env.reset()[0].tolist() == [0, 0, 0, 1, 0]


def test_atari_frames_are_four_in_a_row_of_four_frames_each():
    env = envs.make(trainer(**ATARI))
    first, _ = env.reset(seed=0)
    assert all(np.array_equal(first[0], frame) for frame in first)
    before = inner(env).ale.getEpisodeFrameNumber()
    assert 0 <= before <= 30, "no-ops, each of one frame"
    second, *_ = env.step(2)
    assert inner(env).ale.getEpisodeFrameNumber() == before + 4
    assert np.array_equal(second[:3], first[1:])


def test_a_life_is_not_an_episode():
    env = envs.make(trainer(**ATARI))
    env.reset(seed=0)
    lives = {inner(env).ale.lives()}
    terminated = False
    while len(lives) < 3:
        *_, terminated, _, _ = env.step(1)
        lives.add(inner(env).ale.lives())
        assert not terminated


def test_an_environment_is_made_by_any_function_with_its_arguments():
    env = envs.make(own("Toy", env_args={"ends": 1}))
    env.reset()
    assert env.step(0)[2]


def test_an_environment_shows_itself_where_it_is_asked_to():
    env = envs.make(trainer(), render="rgb_array")
    env.reset(seed=0)
    assert isinstance(env.render(), np.ndarray)
    assert envs.make(trainer()).render_mode is None


REFUSALS = {
    "an unknown id": (
        {"env": "CartPoole-v1"},
        r"gymnasium knows no environment 'CartPoole-v1'\. Did you mean 'CartPole-v1'\?",
    ),
    "a version that is not there": (
        {"env": "LunarLander-v2"},
        r"'LunarLander-v2'\. Known: LunarLander-v3\.",
    ),
    "an id without its version": (
        {"env": "CartPole"},
        r"'CartPole'\. Known: CartPole-v0, CartPole-v1.*\. .*module:function",
    ),
    "a game misspelt": (
        {"env": "ALE/Brekout-v5"},
        r"Did you mean 'ALE/Breakout-v5'\?",
    ),
    "a MinAtar game misspelt": (
        {"env": "MinAtar/Freewy-v1"},
        r"Did you mean 'MinAtar/Freeway-v1'\?",
    ),
    "a game without its namespace": (
        {"env": "SpaceInvaders-v5"},
        r"'SpaceInvaders-v5'\. Known: .*ALE/SpaceInvaders-v5.*MinAtar/SpaceInvaders-v1",
    ),
    "continuous actions": (
        {"env": "Pendulum-v1"},
        r"picks one action of a few, and Pendulum-v1 takes Box\(.*wrap this one",
    ),
    "several actions at once": (
        {"env": "own_envs:pairs"},
        r"own_envs:pairs takes MultiDiscrete",
    ),
    "a dictionary of observations": (
        {"env": "own_envs:dictionary"},
        r"observes Dict\(.*expected a Box of some shape, or a Discrete\..*FlattenObservation",
    ),
    "bits": ({"env": "own_envs:bits"}, r"observes MultiBinary\(3\)"),
    "a lone number": ({"env": "own_envs:number"}, r"observes Box\(0\.0, 1\.0, \(\), float32\)"),
    "a module that is not there": (
        {"env": "no_such_module:make"},
        r"cannot be imported: ModuleNotFoundError: .*no_such_module.*PYTHONPATH",
    ),
    "a module that fails": (
        {"env": "broken_envs:make"},
        r"broken_envs:make cannot be imported: OSError: no display",
    ),
    "a function that is not there": (
        {"env": "own_envs:imag"},
        r"own_envs has no function 'imag'\. Did you mean 'image'\?",
    ),
    "what cannot be called": ({"env": "own_envs:NUMBER"}, r"has no function 'NUMBER'"),
    "a function that returns something else": (
        {"env": "own_envs:nothing"},
        r"own_envs:nothing returned nothing, and not a gymnasium\.Env",
    ),
    "arguments that do not fit a function": (
        {"env": "own_envs:Toy", "env_args": {"speed": 3}},
        r"own_envs:Toy cannot be made with \{'speed': 3\}: TypeError: .*trainer\.env_args",
    ),
    "arguments that do not fit an id": (
        {"env": "CartPole-v1", "env_args": {"speed": 3}},
        r"CartPole-v1 cannot be made with \{'speed': 3\}: TypeError: ",
    ),
    "preprocessing of what is no Atari game": (
        {"env": "CartPole-v1", "preprocess": "atari"},
        r"atari is for Atari games, and CartPole-v1 is none\. Say preprocess: none",
    ),
    "preprocessing of what only looks like one": (
        {"env": "own_envs:image", "preprocess": "yu2020"},
        r"yu2020 is for Atari games, and own_envs:image is none",
    ),
    "frames skipped twice": (
        {**ATARI, "env_args": {"frameskip": 4}},
        r"preprocess: atari sets frameskip itself\. Take it out of env_args",
    ),
    "frames skipped twice by a function": (
        {**YU, "env": "own_envs:game"},
        r"yu2020 skips frames, and own_envs:game does so too\. .*frameskip=1",
    ),
    "convolutions of a vector": (
        {"env": "CartPole-v1", "model": "nature"},
        r"nature looks at images, and CartPole-v1 observes arrays of shape \(4,\)\. "
        r"Say model: mlp\.",
    ),
    "convolutions of a state": (
        {"env": "FrozenLake-v1", "model": "minatar"},
        r"shape \(16,\)\. Say model: mlp\.",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_a_dqn_cannot_play_is_refused_with_the_mend(what):
    fields, message = REFUSALS[what]
    with pytest.raises(UsageError, match=message) as raised:
        envs.spaces(trainer(**fields))
    assert str(raised.value).startswith("trainer.")


@pytest.mark.parametrize(
    ("fields", "missing", "extra"),
    [
        ({"env": "LunarLander-v3"}, "Box2D", "box2d"),
        ({"env": "LunarLander-v3"}, "pygame", "box2d"),
        (ATARI, "ale_py", "atari"),
        (ATARI, "cv2", "atari"),
        (MINATAR, "minatar", "minatar"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(monkeypatch, fields, missing, extra):
    for module in list(sys.modules):
        if module.startswith((envs.BOX2D, "minatar")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing in ("ale_py", "minatar"):  # as in a process that never knew them
        for known, entry in list(gymnasium.registry.items()):
            if str(entry.entry_point).startswith(missing):
                monkeypatch.delitem(gymnasium.registry, known)
    with pytest.raises(
        UsageError,
        match=rf"needs packages that are not here \(.*{missing}.*\): "
        rf"pip install 'raylottery\[{extra}\]'$",
    ):
        envs.make(trainer(**fields))


def test_a_fresh_process_knows_the_environments_of_all_extras_and_says_nothing():
    """Warnings are errors there too: Box2D's would end the process."""
    code = """
        import sys
        from raylottery.spec.dqn import DQNTrainer
        from raylottery.spec.extent import Extent
        from raylottery.trainers.dqn.lanes import Lanes

        for env in ("LunarLander-v3", "MinAtar/Asterix-v1", "ALE/Pong-v5", "CartPole-v0"):
            spec = DQNTrainer(kind="dqn", env=env, length=Extent.parse("2000ts"))
            lanes = Lanes(spec, [0])
            lanes.reset()
            lanes.step([0])
        assert not {"torch", "ray"} & sys.modules.keys()
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
