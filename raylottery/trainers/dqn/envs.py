"""The environments a DQN sweep can name.

They deliver what the networks take: float32 vectors, or images as (channels, height, width). An
image of bytes stays one, so that a replay buffer holds four times as many.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import (
    AtariPreprocessing,
    FrameStackObservation,
    TransformAction,
    TransformObservation,
)

from raylottery.errors import UsageError, did_you_mean
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.problems import shown
from raylottery.trainers.dqn.nuisance import widened


SCREENS = {"atari": (84, 84), "yu2020": (40, 52)}
"""Width and height that a preprocessing scales the frames of an Atari game to."""

STACKED = 4
"""Frames that are shown together, as one alone does not tell which way things move."""

BOX2D = "gymnasium.envs.box2d"


@dataclass(frozen=True)
class EnvSpaces:
    """What an environment shows and what can be done in it."""

    shape: tuple[int, ...]
    dtype: str
    actions: int


_spaces: dict[str, EnvSpaces] = {}


def spaces(spec: DQNTrainer) -> EnvSpaces:
    """What the specification's environment shows, found by making one."""
    read = {"engine", "env", "env_args", "preprocess", "nuisance", "model"}
    key = spec.model_dump_json(include=read)
    if key not in _spaces:
        env = make(spec)
        seen, actions = env.observation_space, env.action_space
        assert isinstance(seen, Box)
        assert isinstance(actions, Discrete)
        _spaces[key] = EnvSpaces(seen.shape, str(seen.dtype), int(actions.n))
        env.close()
    return _spaces[key]


def make(spec: DQNTrainer, *, render: str | None = None) -> gymnasium.Env:
    """One environment of the specification; refused, with the mend, if a DQN cannot play it."""
    env = _called(spec, render) if ":" in spec.env else _registered(spec, render)
    return widened(_shown(_chosen(_preprocessed(env, spec), spec), spec), spec)


def _registered(spec: DQNTrainer, render: str | None) -> gymnasium.Env:
    """An environment by its gymnasium id."""
    known = _look_up(spec.env)
    origin, arguments = str(known.entry_point), dict(spec.env_args)
    if spec.preprocess != "none" and origin.startswith("ale_py"):
        # Frames are skipped and made grey by the preprocessing, which needs to see each of them.
        preset = {"frameskip": 1, "obs_type": "grayscale"}
        for name in preset.keys() & arguments:
            raise UsageError(
                f"trainer.env_args: preprocess: {spec.preprocess} sets {name} itself. Take it out "
                f"of env_args, or say preprocess: none."
            )
        arguments |= preset
    # By its entry in the registry rather than by its id, as a sweep that names an old version
    # means it and needs no warning. The checker would look at the first step alone, for a price
    # on all of them.
    env = _made(spec, partial(gymnasium.make, known, disable_env_checker=True), arguments, render)
    return _MinAtar(env) if origin.startswith("minatar") else env


def _look_up(env: str) -> EnvSpec:
    """The registry's entry for an id; packages add theirs when a process imports them."""
    registry = gymnasium.registry
    for namespace, register in _PACKAGES.items():
        if env not in registry and (env.startswith(f"{namespace}/") or _installed(namespace)):
            register(env)
    if env not in registry:
        namesakes = [known for known in registry if _name(known) == _name(env)]
        hint = f"Known: {', '.join(namesakes)}." if namesakes else did_you_mean(env, registry)
        raise UsageError(
            f"trainer.env: gymnasium knows no environment {env!r}. {hint} One of your own is "
            f"named by the function that makes it, as module:function."
        )
    if str(registry[env].entry_point).startswith(BOX2D):
        _import(BOX2D, "box2d", env)
    return registry[env]


def _name(env: str) -> str:
    """An id without its namespace and version."""
    return (env.rpartition("-v")[0] or env).rpartition("/")[2]


def _register_atari(env: str) -> None:
    ale_py = _import("ale_py", "atari", env)
    # It greets on the standard error for every single environment.
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def _register_minatar(env: str) -> None:
    minatar = _import("minatar.gym", "minatar", env)
    if not any(known.startswith("MinAtar/") for known in gymnasium.registry):
        minatar.register_envs()


_PACKAGES: dict[str, Callable[[str], None]] = {
    "ALE": _register_atari,
    "MinAtar": _register_minatar,
}
"""What registers the environments of a namespace."""


def _installed(namespace: str) -> bool:
    return importlib.util.find_spec({"ALE": "ale_py", "MinAtar": "minatar"}[namespace]) is not None


def _import(module: str, extra: str, env: str) -> Any:
    """A module that comes with one of this package's extras."""
    try:
        with warnings.catch_warnings():
            # Box2D brings the interpreter down if the warnings of its import become errors.
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except (ImportError, DependencyNotInstalled) as error:
        raise UsageError(
            f"trainer.env: {env} needs packages that are not here "
            f"({error.__cause__ or error}): pip install 'raylottery[{extra}]'"
        ) from error


def _called(spec: DQNTrainer, render: str | None) -> gymnasium.Env:
    """An environment by the function that makes it."""
    module, _, name = spec.env.partition(":")
    try:
        home = importlib.import_module(module)
    except Exception as error:
        raise UsageError(
            f"trainer.env: the module of {spec.env} cannot be imported: {type(error).__name__}: "
            f"{error}. Install it, or put its folder on PYTHONPATH."
        ) from error
    function = getattr(home, name, None)
    if not callable(function):
        functions = [n for n, v in vars(home).items() if callable(v) and not n.startswith("_")]
        raise UsageError(
            f"trainer.env: {module} has no function {name!r}. {did_you_mean(name, functions)}"
        )
    env = _made(spec, function, dict(spec.env_args), render)
    if not isinstance(env, gymnasium.Env):
        raise UsageError(
            f"trainer.env: {spec.env} returned {shown(env)}, and not a gymnasium.Env. Let it "
            f"return the environment it makes."
        )
    return env


def _made(
    spec: DQNTrainer, maker: Callable[..., Any], arguments: dict[str, Any], render: str | None
) -> Any:
    if render is not None:
        arguments["render_mode"] = render
    try:
        return maker(**arguments)
    except Exception as error:
        raise UsageError(
            f"trainer.env: {spec.env} cannot be made with {arguments or 'no arguments'}: "
            f"{type(error).__name__}: {error}. Its arguments are those of trainer.env_args."
        ) from error


def _preprocessed(env: gymnasium.Env, spec: DQNTrainer) -> gymnasium.Env:
    """An Atari game in small grey frames, of which the last few are shown at a time.

    Each action is held for four frames, an episode begins with up to 30 of doing nothing, and it
    ends with the game, not with a life.
    """
    if spec.preprocess == "none":
        return env
    if not hasattr(env.unwrapped, "ale"):
        raise UsageError(
            f"trainer.preprocess: {spec.preprocess} is for Atari games, and {spec.env} is none. "
            f"Say preprocess: none, or take one such as ALE/Breakout-v5."
        )
    _import("cv2", "atari", spec.env)
    try:
        env = AtariPreprocessing(env, screen_size=SCREENS[spec.preprocess])
    except ValueError as error:
        raise UsageError(
            f"trainer.preprocess: {spec.preprocess} skips frames, and {spec.env} does so too. "
            f"Let it make the game with frameskip=1."
        ) from error
    return FrameStackObservation(env, STACKED)


def _chosen(env: gymnasium.Env, spec: DQNTrainer) -> gymnasium.Env:
    """Its actions, counted from 0."""
    actions = env.action_space
    if not isinstance(actions, Discrete):
        raise UsageError(
            f"trainer.env: a DQN picks one action of a few, and {spec.env} takes {actions}. Take "
            f"an environment with discrete actions, or wrap this one in a module:function that "
            f"offers some."
        )
    first = int(actions.start)
    if first == 0:
        return env
    return TransformAction(env, lambda action: action + first, Discrete(int(actions.n)))


def _shown(env: gymnasium.Env, spec: DQNTrainer) -> gymnasium.Env:
    """Its observations, as the networks take them."""
    space = env.observation_space
    if isinstance(space, Discrete):
        env = _one_hot(env, space)
    elif isinstance(space, Box) and space.shape:
        env = _laid_out(env, space)
    else:
        raise UsageError(
            f"trainer.env: {spec.env} observes {space}; expected a Box of some shape, or a "
            f"Discrete. Wrap it in a module:function, with "
            f"gymnasium.wrappers.FlattenObservation for one."
        )
    if spec.model != "mlp" and len(env.observation_space.shape or ()) != 3:
        raise UsageError(
            f"trainer.model: {spec.model} looks at images, and {spec.env} observes arrays of "
            f"shape {env.observation_space.shape}. Say model: mlp."
        )
    if spec.engine == "compiled" and len(env.observation_space.shape or ()) == 3:
        raise UsageError(
            f"trainer.engine: the compiled engine sees no images, and {spec.env} shows some of "
            f"shape {env.observation_space.shape}. Say engine: rllib."
        )
    return env


def _one_hot(env: gymnasium.Env, space: Discrete) -> gymnasium.Env:
    """States by number, each as an input of its own."""
    states, first = int(space.n), int(space.start)

    def hot(state: int) -> np.ndarray:
        obs = np.zeros(states, np.float32)
        obs[state - first] = 1
        return obs

    return TransformObservation(env, hot, Box(0, 1, (states,), np.float32))


def _laid_out(env: gymnasium.Env, space: Box) -> gymnasium.Env:
    """Arrays of float32, or of bytes that use their range; an image's channels first."""
    low, high, dtype = -np.inf, np.inf, np.float32
    if space.dtype == np.uint8 and space.high.max() == 255:
        low, high, dtype = 0, 255, np.uint8
    axes = tuple(range(len(space.shape)))
    # A stack of frames has its channels first already: they are fewer than the rows of an image.
    if len(axes) == 3 and space.shape[2] <= space.shape[0]:
        axes = (2, 0, 1)
    shape = tuple(space.shape[axis] for axis in axes)
    if shape == space.shape and dtype == space.dtype:
        return env

    def laid_out(obs: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.transpose(obs, axes), dtype)

    return TransformObservation(env, laid_out, Box(low, high, shape, dtype))


class _MinAtar(gymnasium.Wrapper):
    """MinAtar's games take seeds of 32 bits alone, and a seed does not reset all that there is.

    At times the action before is taken instead of the one that is asked for, and that action may
    be one of the episode before.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is None:
            return self.env.reset(options=options)
        self.env.get_wrapper_attr("game").last_action = 0
        return self.env.reset(seed=seed % 2**32, options=options)
