"""Which environments are stepped in compiled code, and whether that is true to gymnasium here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import closing

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from raylottery.spec import DQNTrainer
from raylottery.trainers.dqn import envs
from raylottery.trainers.dqn.compiled import games, tables


KINDS = {
    "CartPole-v0": games.CARTPOLE,
    "CartPole-v1": games.CARTPOLE,
    "Acrobot-v1": games.ACROBOT,
    "MountainCar-v0": games.MOUNTAIN_CAR,
}
TWO = 2.0
TRIED = 200
"""Steps, and resets, that are compared before an environment is trusted."""

log = logging.getLogger(__name__)
_TRUE: dict[games.Kind, bool] = {}
_LOCK = threading.Lock()


def game(spec: DQNTrainer, seeds: Sequence[int]) -> tables.Game | None:
    """One environment in each lane, before its first episode; None where Python has to step it."""
    kind, limit = KINDS.get(spec.env), spec.env_args.get("max_episode_steps")
    if kind is None or not spec.env_args.keys() <= {"max_episode_steps"} or spec.nuisance.inputs:
        return None
    if limit is None:
        limit = gymnasium.registry[spec.env].max_episode_steps
    if type(limit) is not int or limit < 1 or not trusted(spec, kind):
        return None
    return of(limit, seeds)


def of(limit: int, seeds: Sequence[int]) -> tables.Game:
    streams = np.array([words(seed) for seed in seeds], np.uint64).reshape(-1, 4)
    return tables.Game(limit, TWO, np.zeros((len(seeds), games.STATE)), streams)


def words(seed: int) -> list[int]:
    """The state of the generator that an environment draws from once it is reset with a seed."""
    generator, _ = seeding.np_random(seed)
    state = generator.bit_generator.state["state"]
    return [half for word in (state["state"], state["inc"]) for half in divmod(word, 2**64)]


def trusted(spec: DQNTrainer, kind: games.Kind) -> bool:
    """Whether compiled steps are gymnasium's to the bit, with the processor and versions here."""
    with _LOCK:
        if kind not in _TRUE:
            _TRUE[kind] = agrees(spec, kind, TRIED, TRIED)
            if not _TRUE[kind]:
                log.warning(
                    "compiled steps of %s round otherwise than gymnasium's here: gymnasium steps "
                    "it, which takes longer",
                    spec.env,
                )
        return _TRUE[kind]


def agrees(spec: DQNTrainer, kind: games.Kind, steps: int, resets: int, seed: int = 0) -> bool:
    """Whether compiled steps are gymnasium's over so many at random, in all that they show; and
    then so many resets."""
    ours = of(2**62, [seed])
    seen = np.zeros(kind.width, np.float32)

    def same(obs: np.ndarray, fresh: bool) -> bool:
        state = np.array(env.unwrapped.state, np.float64)  # ty: ignore[missing-attribute]
        kind.show(ours.states, 0, fresh, seen)
        return np.array_equal(obs, seen) and np.array_equal(state, ours.states[0, : len(state)])

    with closing(envs.make(spec.model_copy(update={"env_args": {}}))) as env:
        count = env.action_space.n  # ty: ignore[missing-attribute]
        actions = np.random.default_rng(seed).integers(count, size=steps).tolist()
        obs, _ = env.reset(seed=seed)
        kind.reset(ours.states, ours.streams, 0)
        if not same(obs, True):
            return False
        for step in range(steps + resets):
            over = step >= steps
            if not over:
                action = actions[step]
                obs, reward, terminated, truncated, _ = env.step(action)
                found = kind.step(ours.states, 0, action, ours.two)
                if found != (reward, terminated) or not same(obs, False):
                    return False
                over = terminated or truncated
            if over:
                obs, _ = env.reset()
                kind.reset(ours.states, ours.streams, 0)
                if not same(obs, True):
                    return False
    return True
