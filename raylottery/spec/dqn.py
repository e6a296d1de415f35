"""The `trainer:` section of a sweep that trains DQN agents.

A training is made of rollouts and updates: once `learning_starts` environment steps of random
play are in the replay buffer, the agent collects `rollout` steps, makes `updates` updates, and so
on. The schedule counts updates. So `50000ts` of training is what that many environment steps, the
random ones included, come to in updates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen, canonical, determinants
from raylottery.spec.kernel import KERNEL_PROTOCOL
from raylottery.spec.nuisance import Nuisance
from raylottery.spec.problems import Problem, Problems, StrictModel, changed, shown


MODELS = {"mlp": (128, 128), "minatar": (128,), "nature": (512,), "yu2020": (512, 512)}
"""The networks by name, and the widths of their dense hidden layers unless `hidden` says."""

UNCOMPILED = {
    "preprocess": "sees no images",
    "normalise": "takes no statistics of observations",
    "model": "trains dense layers only",
    "priority": "draws all transitions alike",
    "atoms": "learns mean returns only",
    "runners": "collects where it trains",
    "learners": "learns in one process",
    "threads": "trains each lineage in one thread",
}
"""Fields that the compiled engine does not vary, and why."""

_ENV = re.compile(r"[A-Za-z0-9][\w.:/-]*")


class DQNTrainer(StrictModel):
    """A DQN agent in an environment with discrete actions."""

    PROTOCOL: ClassVar[int] = 1
    """Raised whenever the same fields would train differently than before."""

    kind: Literal["dqn"]
    """What is trained."""
    engine: Literal["rllib", "compiled"] = "rllib"
    """What runs the training: RLlib, or compiled code for small dense networks on a CPU, whose
    cost falls with density."""
    env: str
    """Environment: a gymnasium id such as CartPole-v1, or module:function that makes one."""
    env_args: Annotated[dict[str, Any], Frozen({})] = Field(default_factory=dict)
    """Keyword arguments of the environment."""
    preprocess: Annotated[Literal["none", "atari", "yu2020"], Frozen("none")] = "none"
    """Wrappers: atari (84x84 grey, 4 frames) or yu2020 (52x40 grey, 4 frames) for Atari games."""
    nuisance: Annotated[Nuisance, Frozen(Nuisance())] = Nuisance()
    """Inputs that tell nothing new, added to flat observations."""
    normalise: Annotated[bool, Frozen(False)] = False
    """Whether observations are divided by their running spread, after taking off their mean."""
    model: Literal["mlp", "minatar", "nature", "yu2020"] = "mlp"
    """Network: dense layers alone, or convolutions as in the papers before them."""
    hidden: tuple[Annotated[int, Field(ge=1, le=99_999)], ...] | None = Field(None, strict=False)
    """Widths of the dense hidden layers, such as [128, 128]; each model has its own default."""
    dueling: Annotated[bool, Frozen(False)] = False
    """Whether value and advantages have a stream each."""
    length: Extent
    """Training of a round from start to end, in environment steps or updates, as 50000ts."""
    learning_starts: int = Field(1000, ge=1)
    """Environment steps of random play before the first update."""
    rollout: int = Field(8, ge=1)
    """Environment steps that are collected between updates."""
    updates: int = Field(8, ge=1)
    """Updates after each rollout."""
    envs: int = Field(8, ge=1)
    """Environments that are stepped together; they share each rollout evenly."""
    batch_size: int = Field(64, ge=1)
    """Transitions per update."""
    buffer: int = Field(100_000, ge=1)
    """Transitions the replay buffer holds; the oldest make room."""
    priority: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0)
    """Exponent of prioritised replay; 0 draws all transitions alike."""
    priority_beta: Annotated[float, Frozen(0.4)] = Field(0.4, ge=0, le=1)
    """How far importance weights make up for prioritised replay."""
    n_step: Annotated[int, Frozen(5)] = Field(5, ge=1)
    """Rewards that are summed before the value of the next state is taken."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount of the future."""
    double: bool = True
    """Whether the online network picks the action whose target value is taken."""
    atoms: Annotated[int, Frozen(1)] = Field(1, ge=1)
    """Atoms of a learnt distribution of returns (C51 has 51); 1 learns its mean."""
    value_range: Annotated[float, Frozen(10.0)] = Field(10.0, gt=0)
    """The learnt distribution lies between minus and plus this."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of a temporal difference."""
    lr: float = Field(0.001, gt=0)
    """Learning rate at the start."""
    lr_end: Annotated[float, Frozen(0.05)] = Field(0.05, ge=0, le=1)
    """Share of the learning rate that is left at the end; it falls linearly."""
    adam_epsilon: Annotated[float, Frozen(1e-8)] = Field(1e-8, gt=0)
    """Adam's epsilon."""
    weight_decay: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0)
    """Weight decay, as Adam has it."""
    clip: float = Field(10.0, gt=0)
    """Largest norm of a gradient, of the surviving weights."""
    target_every: Extent = Extent.parse("1it")
    """Distance between two target syncs, in updates or environment steps, such as 500it."""
    tau: float = Field(0.005, gt=0, le=1)
    """Share of the online network that a sync mixes into the target; 1 copies it."""
    epsilon_end: float = Field(0.05, ge=0, le=1)
    """Share of random actions once exploration has decayed; it starts at 1."""
    epsilon_decay: Extent = Extent.parse("20%")
    """Stretch of the training over which it falls, linearly."""
    runners: Annotated[int, Frozen(0)] = Field(0, ge=0)
    """Processes that collect experience; 0 does it where the training is."""
    learners: Annotated[int, Frozen(0)] = Field(0, ge=0)
    """Processes that share each update; 0 does it where the training is."""
    threads: Annotated[int, Frozen(1)] = Field(1, ge=1)
    """Torch's CPU threads; they change the last bits of a result, so they count."""

    metric: ClassVar[str] = "return"
    """What a score counts."""

    @field_validator("env")
    @classmethod
    def _plausible_env(cls, env: str) -> str:
        if not _ENV.fullmatch(env):
            raise ValueError(
                f"{shown(env)} is no environment: a gymnasium id such as CartPole-v1, or "
                f"module:function."
            )
        return env

    @field_validator("length", "target_every")
    @classmethod
    def _countable(cls, extent: Extent) -> Extent:
        extent.steps({"it": 1, "ts": 1}, None)  # no other unit can be counted before these two
        if extent.amount == 0:
            raise ValueError(f"{extent} is no length; say at least 1it.")
        return extent

    @field_validator("env_args")
    @classmethod
    def _plain(cls, env_args: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical(env_args)
        except TypeError as error:
            raise ValueError(
                f"{shown(env_args)} is more than plain text, finite numbers, true, false, and "
                f"lists and mappings of them; have a module:function make the rest."
            ) from error
        return env_args

    @model_validator(mode="after")
    def _fits(self) -> DQNTrainer:
        checks = (self._uneven, self._too_short, self._unread, self._not_flat, self._uncompiled)
        faults = [problem for check in checks for problem in check()]
        if not faults:
            try:
                self.steps(self.epsilon_decay)
            except ValueError as error:
                faults.append(Problem(("epsilon_decay",), str(error)))
        if faults:
            raise Problems(faults)
        return self

    @property
    def lanes(self) -> int:
        """Environments in all, over all runners."""
        return self.envs * max(1, self.runners)

    def _uneven(self) -> Iterator[Problem]:
        """What cannot be shared evenly."""
        for name in ("rollout", "learning_starts"):
            steps = getattr(self, name)
            if steps % self.lanes:
                yield Problem(
                    (name,),
                    f"{steps} environment steps cannot be shared evenly by {self.lanes} "
                    f"environments (envs times runners); say {up(steps, self.lanes)}.",
                )
        if self.learners and self.batch_size % self.learners:
            yield Problem(
                ("batch_size",),
                f"{self.batch_size} transitions cannot be shared evenly by {self.learners} "
                f"learners; say {up(self.batch_size, self.learners)}.",
            )

    def _too_short(self) -> Iterator[Problem]:
        """Stretches and stores that hold less than is taken from them."""
        if self.total_steps < 1:
            yield Problem(
                ("length",),
                f"{self.length} comes to no update at all: {self.learning_starts} environment "
                f"steps of random play come first, then rollouts of {self.rollout}; say at least "
                f"{self.learning_starts + self.rollout}ts.",
            )
        if self.units["sync"] < 1:
            yield Problem(
                ("target_every",),
                f"{self.target_every} comes to no update at all, with {self.updates} in "
                f"{self.rollout} environment steps; say at least 1it.",
            )
        # The last steps of each environment wait for the rewards that they sum.
        needed = self.batch_size + (self.n_step - 1) * self.lanes
        if self.learning_starts < needed:
            waiting = f", and {needed - self.batch_size} more wait for n_step"
            yield Problem(
                ("learning_starts",),
                f"the first batch needs {self.batch_size} transitions"
                f"{waiting if self.n_step > 1 else ''}; say at least {up(needed, self.lanes)}.",
            )
        if self.buffer < self.learning_starts:
            yield Problem(
                ("buffer",),
                f"{self.buffer} transitions cannot hold the {self.learning_starts} steps of "
                f"learning_starts; say at least that.",
            )

    def _unread(self) -> Iterator[Problem]:
        """What another field leaves unread, and would only give equal trainings different keys."""
        given = changed(self)
        if "priority_beta" in given and not self.priority:
            text = "means nothing without priority; leave it out, or set priority."
            yield Problem(("priority_beta",), text)
        if "value_range" in given and self.atoms == 1:
            text = "means nothing without atoms; leave it out, or say atoms: 51."
            yield Problem(("value_range",), text)
        if "loss" in given and self.atoms > 1:
            text = "a distribution is learnt by its cross-entropy; leave it out, or say atoms: 1."
            yield Problem(("loss",), text)

    def _not_flat(self) -> Iterator[Problem]:
        """Images, which nuisance inputs cannot be added to."""
        if not self.nuisance.inputs:
            return
        for name in ("model", "preprocess"):
            if name in changed(self):
                text = f"is for flat observations, and {name}: {getattr(self, name)} is for images"
                yield Problem(("nuisance",), f"{text}; leave one of them out.")

    def _uncompiled(self) -> Iterator[Problem]:
        """What the compiled engine cannot do."""
        if self.engine != "compiled":
            return
        for name in changed(self):
            if why := UNCOMPILED.get(name):
                text = f"the compiled engine {why}; leave it out, or say engine: rllib."
                yield Problem((name,), text)

    @property
    def side_by_side(self) -> bool:
        """Whether one process may train several lineages at a time, each on a thread."""
        return self.engine == "compiled"

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the dense hidden layers."""
        return MODELS[self.model] if self.hidden is None else self.hidden

    @property
    def units(self) -> Mapping[str, Fraction]:
        """Updates per unit of length."""
        per_step = Fraction(self.updates, self.rollout)
        sync = self.target_every.steps({"it": 1, "ts": per_step}, None)
        return {"it": Fraction(1), "ts": per_step, "sync": Fraction(sync)}

    @property
    def total_steps(self) -> int:
        """Updates of a whole training; whole rollouts, if its length is in environment steps."""
        if self.length.unit != "ts":
            return int(self.length.amount)
        rollouts = (int(self.length.amount) - self.learning_starts) // self.rollout
        return max(0, rollouts * self.updates)

    def steps(self, extent: Extent) -> int:
        """A stretch of the training as updates, % being of the whole."""
        return extent.steps(self.units, self.total_steps)

    def at(self, extent: Extent) -> int:
        """A point of the training as the updates before it; random play is before them all."""
        if extent.unit != "ts":
            return self.steps(extent)
        past = max(0, int(extent.amount) - self.learning_starts)
        return past // self.rollout * self.updates

    def env_steps(self, updates: int) -> int:
        """Environment steps that so many updates take, without the random play before them."""
        return -(-updates // self.updates) * self.rollout

    def determined(self) -> dict[str, Any]:
        """The fields that say something, extents as updates."""
        kernel = {"kernel": KERNEL_PROTOCOL} if self.engine == "compiled" else {}
        return {
            **determinants(self, self.steps),
            "length": self.total_steps,
            "hidden": list(self.widths),
            **kernel,
        }

    @property
    def task(self) -> str:
        """What is learnt."""
        return self.env


def up(amount: int, shares: int) -> int:
    """The next amount that can be shared evenly."""
    return -(-amount // shares) * shares
