"""An agent that compiled code trains, from one round to the next."""

from __future__ import annotations

import numpy as np
import torch

from raylottery.kernel import Network, adam, optimizers, passes
from raylottery.kernel.compiled import make_ready
from raylottery.kernel.packing import aligned
from raylottery.pruning import Masks
from raylottery.spec import DQNTrainer, derive_seed
from raylottery.trainers.base import Weights
from raylottery.trainers.dqn.compiled import environments, games, layers, loops, tables
from raylottery.trainers.dqn.compiled.acting import flat
from raylottery.trainers.dqn.envs import EnvSpaces
from raylottery.trainers.dqn.lanes import Lanes
from raylottery.trainers.dqn.resets import Beginning, Experience
from raylottery.trainers.dqn.rounds import refuse_diverged
from raylottery.trainers.dqn.schedule import Schedule


NOWHERE = tables.Game(1, environments.TWO, np.zeros((0, games.STATE)), np.zeros((0, 4), np.uint64))
"""Where Python steps the environments."""


class Entries:
    """The functions that the compiled loops are handed."""

    def __init__(self, kind: games.Kind):
        self.forward = passes.forward.handle
        game = (kind.reset.handle, kind.step.handle, kind.show.handle)
        self.playing = (self.forward, loops.act.handle, loops.record.handle, *game)
        self.learning = (
            *(passes.backward.handle, optimizers.step.handle),
            *(loops.draw.handle, loops.judge.handle, loops.sync.handle, loops.collect.handle),
            *self.playing,
        )
        self.measuring = (self.forward, *game)
        make_ready(loops.train, loops.measure)


class CompiledAgent:
    """Networks, lanes and a replay buffer, all in flat arrays."""

    def __init__(self, spec: DQNTrainer, space: EnvSpaces):
        # Where Python steps the environments, any will do: it is never called.
        self.kind = environments.KINDS.get(spec.env, games.CARTPOLE)
        self.entries = Entries(self.kind)
        self.spec = spec
        self.space = space
        self.width = int(np.prod(space.shape))
        row = in_lines(2 * self.width + tables.NUMBERS)
        self.replay = np.zeros((spec.buffer, row), np.float32)
        self.counters = np.zeros(tables.COUNTERS, np.int64)
        self.lost = np.zeros(2)
        self.lanes: Lanes | None = None
        self.rules = tables.Rules(
            actions=space.actions,
            gamma=spec.gamma,
            updates=spec.updates,
            sync_every=spec.steps(spec.target_every),
            tau=spec.tau,
            double=spec.double,
            dueling=spec.dueling,
            squared=spec.loss == "squared",
            optimizer=adam(epsilon=spec.adam_epsilon, decay=spec.weight_decay, clip=spec.clip),
        )

    @property
    def at(self) -> int:
        return int(self.counters[tables.AT])

    @property
    def env_steps(self) -> int:
        return int(self.counters[tables.STEPS])

    # A round's beginning

    def begin(self, beginning: Beginning, experience: Experience, schedule: Schedule) -> None:
        spec = self.spec
        self.close()
        self.schedule = schedule
        self.returns: list[float] = []
        self.losses = 0
        """Updates since the mean loss was last asked for."""
        self.lost[:] = 0
        self.counters[:] = 0
        self.counters[tables.AT] = beginning.step
        self.counters[tables.EXPLORE] = derive_seed("explore", experience.exploration_seed, 0)
        self.counters[tables.REPLAY] = derive_seed("replay", experience.env_seed)
        self.take_networks(beginning)
        self.take_experience(experience.kept)

        seeds = [derive_seed("env", experience.env_seed, lane) for lane in range(spec.envs)]
        self.play = played(spec.envs, spec.n_step, self.width)
        game = environments.game(spec, seeds)
        self.game = game or NOWHERE
        if game is None:
            self.lanes = Lanes(spec, seeds)
            self.play.frames[:, tables.SEEN] = flat(self.lanes.reset())
        else:
            for lane in range(spec.envs):
                self.kind.reset(game.states, game.streams, lane)
                self.kind.show(game.states, lane, True, self.play.frames[lane, tables.SEEN])
        if experience.warm_up is not None:
            acting = self.acting
            if experience.explorer is not None:
                acting = self.passing(layers.network(spec, experience.explorer, {}), spec.envs)
            steps = spec.learning_starts // spec.lanes
            self.collect(acting, np.full(steps, experience.warm_up))

    def take_networks(self, beginning: Beginning) -> None:
        spec = self.spec
        self.masks: Masks = beginning.masks
        self.net = layers.network(spec, beginning.weights, beginning.masks)
        self.ends = self.net.packed.ends
        sources = np.zeros(0, np.int64)
        if beginning.masks_target:
            self.target = Network(self.net.packed, aligned(len(self.net.values)))
            layers.lay(spec, self.net, beginning.target, self.target.values)
        else:
            self.target = layers.network(spec, beginning.target, {})
            sources = layers.sources(self.net, self.target)
        if beginning.moments:
            self.take_moments(beginning.moments)
        self.acting = self.passing(self.net, spec.envs)
        self.here, self.there, self.far = (
            self.passing(net, spec.batch_size) for net in (self.net, self.net, self.target)
        )
        self.learner = self.learning(sources)

    def take_moments(self, moments: Weights) -> None:
        """Kept ones move survivors that no gradient reaches too."""
        for kind, place in (("exp_avg", self.net.first), ("exp_avg_sq", self.net.second)):
            of_kind = {
                name.removeprefix(f"{kind}."): moment
                for name, moment in moments.items()
                if name.startswith(f"{kind}.")
            }
            layers.lay(self.spec, self.net, of_kind, place)
        steps = next(moment for name, moment in moments.items() if name.startswith("step."))
        self.counters[tables.UPDATES] = int(steps)
        first, *_, last = self.net.packed.ends
        self.ends = np.array([first, last, last, last])

    def passing(self, net: Network, batch: int) -> tables.Net:
        """A network with room for its passes over a batch."""
        room, packed = net.room(batch), net.packed
        q = self.values_beside(room.outputs)
        return tables.Net(packed.plan, packed.index, net.values, room.acts, room.outputs, q)

    def values_beside(self, outputs: np.ndarray) -> np.ndarray:
        """Room for the values of actions: the outputs', unless the network is dueling."""
        if not self.spec.dueling:
            return outputs
        return np.zeros((self.space.actions, outputs.shape[1]), np.float32)

    def learning(self, sources: np.ndarray) -> tables.Learner:
        size, net = self.spec.batch_size, self.net
        room = net.room(size)
        batch = np.zeros((tables.ROWS, size), np.float32)
        batch[tables.WEIGHTS] = 1
        return tables.Learner(
            mask=net.packed.mask,
            ends=self.ends,
            grads=net.grads,
            first=net.first,
            second=net.second,
            deltas=room.deltas_flat,
            scratch=room.scratch,
            output_deltas=room.deltas,
            q_deltas=self.values_beside(room.deltas),
            actions=np.zeros(size, np.int64),
            batch=batch,
            sources=sources,
        )

    # Training

    def advance(self, goal: int) -> None:
        spec, at, due = self.spec, self.at, int(self.counters[tables.DUE])
        lrs = self.schedule.lrs(np.arange(at, goal))
        rollouts = np.arange(at + due, goal, spec.updates)
        steps = np.arange(spec.rollout // spec.lanes) * spec.lanes
        passed = rollouts[:, None] + steps * (spec.updates / spec.rollout)
        epsilons = self.schedule.epsilons(passed)
        if self.lanes is None:
            self.learn(lrs, epsilons)
            return
        self.learn(lrs[:due], epsilons[:0])
        for first, shares in zip(rollouts - at, epsilons, strict=True):
            self.collect(self.acting, shares)
            self.counters[tables.DUE] = spec.updates
            self.learn(lrs[first : first + spec.updates], epsilons[:0])

    def learn(self, lrs: np.ndarray, epsilons: np.ndarray) -> None:
        """So many updates, with the rollouts that are due between them."""
        ended = np.zeros(epsilons.size * self.spec.lanes)
        before = self.at
        loops.train(
            *self.entries.learning,
            *(self.acting, self.here, self.there, self.far, self.learner),
            *(self.play, self.game, self.rules, self.replay, self.counters),
            *(ended, epsilons, lrs, self.lost),
        )
        self.losses += self.at - before
        self.take_returns(ended)
        refuse_diverged(float(self.lost[1]), self)

    def collect(self, acting: tables.Net, epsilons: np.ndarray) -> None:
        """One step of every lane for each share of random actions."""
        ended = np.zeros(epsilons.size * self.spec.lanes)
        if self.lanes is None:
            loops.collect(
                *(*self.entries.playing, acting, self.play, self.game, self.rules),
                *(self.replay, self.counters, ended, epsilons),
            )
        else:
            for epsilon in epsilons:
                self.step_lanes(self.lanes, acting, epsilon, ended)
        self.take_returns(ended)

    def step_lanes(
        self, lanes: Lanes, acting: tables.Net, epsilon: float, ended: np.ndarray
    ) -> None:
        """One step of every lane, by gymnasium."""
        rules, (frames, marks, sums) = self.rules, self.play
        loops.act(
            *(self.entries.forward, acting, self.play, self.counters),
            *(rules.dueling, rules.actions, epsilon),
        )
        obs, after, rewards, terminated, truncated = lanes.step(marks[:, tables.ACTION])
        frames[:, tables.REACHED] = flat(after)
        sums[:, tables.REWARD] = rewards
        marks[:, tables.TERMINATED] = terminated
        marks[:, tables.ENDED_HERE] = terminated | truncated
        loops.record(self.play, rules.gamma, self.replay, self.counters, ended)
        frames[:, tables.SEEN] = flat(obs)

    def take_returns(self, ended: np.ndarray) -> None:
        self.returns += ended[: self.counters[tables.ENDED]].tolist()
        self.counters[tables.ENDED] = 0

    # What came of it

    def weights(self) -> Weights:
        return layers.named(self.spec, self.net)

    def moments(self) -> Weights:
        step = torch.tensor(float(self.counters[tables.UPDATES]))
        means, squares = (
            layers.named(self.spec, self.net, flat) for flat in (self.net.first, self.net.second)
        )
        return {
            f"{kind}.{name}": moment
            for name in means
            for kind, moment in (
                ("step", step), ("exp_avg", means[name]), ("exp_avg_sq", squares[name])
            )
        }  # fmt: skip

    def mean_loss(self) -> float:
        mean = float(self.lost[0]) / self.losses if self.losses else np.nan
        self.lost[0] = self.losses = 0
        return mean

    def count_revived(self) -> int:
        return self.net.strays() + self.target.strays()

    def contents(self) -> Weights:
        size = int(self.counters[tables.SIZE])
        first = int(self.counters[tables.NEXT]) if size == len(self.replay) else 0
        rows = self.replay[(first + np.arange(size)) % len(self.replay)]
        width, shape = self.width, (size, *self.space.shape)
        numbers = rows[:, 2 * width :]
        parts = {
            "obs": rows[:, :width].reshape(shape),
            "actions": numbers[:, tables.TOOK].astype(np.int64),
            "rewards": numbers[:, tables.EARNED],
            "next_obs": rows[:, width : 2 * width].reshape(shape),
            "terminateds": numbers[:, tables.OVER] > 0,
            "n_step": numbers[:, tables.SUMMED],
        }
        return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}

    def take_experience(self, kept: Weights) -> None:
        """Begin the buffer with transitions."""
        if not kept:
            return
        parts = {name: part.numpy() for name, part in kept.items()}
        size = len(parts["actions"])
        left = 1.0 - parts["terminateds"]
        parts["discount"] = left * self.spec.gamma ** parts["n_step"].astype(np.float64)
        whole = np.column_stack([parts[name].reshape(size, -1) for name in tables.COLUMNS])
        self.replay[:size, : whole.shape[1]] = whole
        self.counters[tables.SIZE] = size
        self.counters[tables.NEXT] = size % len(self.replay)

    def close(self) -> None:
        if self.lanes is not None:
            self.lanes.close()
            self.lanes = None


def played(lanes: int, n_step: int, width: int) -> tables.Play:
    """Lanes that nothing has happened in yet."""
    return tables.Play(
        np.zeros((lanes, tables.HELD + n_step, width), np.float32),
        np.zeros((lanes, tables.ACTIONS + n_step), np.int64),
        np.zeros((lanes, tables.REWARDS + n_step)),
    )


def in_lines(numbers: int) -> int:
    """So many numbers, filled up to whole lines of a processor's cache."""
    return -(-numbers // 16) * 16
