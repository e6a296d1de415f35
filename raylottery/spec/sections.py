"""The smaller sections of a sweep file. Each field's help stands under it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, field_validator

from raylottery.errors import did_you_mean
from raylottery.spec.accelerators import ACCELERATORS
from raylottery.spec.extent import Extent
from raylottery.spec.fingerprint import Frozen
from raylottery.spec.problems import Problem, Problems, StrictModel, shown
from raylottery.spec.quantity import Memory


MAX_ROUNDS = 1000

AT_INITIALISATION = ("initial-magnitude", "snip", "grasp", "synflow")
"""Scores that no training changes."""
FROM_BEGINNING = (*AT_INITIALISATION, "magnitude-increase", "large-final-same-sign")
"""Scores that look at the weights a seed begins with."""


def _point(value: Any) -> str | Extent:
    if isinstance(value, Extent) or value in ("init", "final"):
        return value
    if isinstance(value, str) and value[:1].isdigit():
        return Extent.parse(value)
    raise ValueError(f"{shown(value)} is no point to rewind to: init, final, or an extent as 1ep.")


Point = Annotated[
    Literal["init", "final"] | Extent,
    PlainValidator(_point, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]


class Prune(StrictModel):
    """What each round prunes."""

    score: Literal[
        "magnitude",
        "random",
        "initial-magnitude",
        "magnitude-increase",
        "large-final-same-sign",
        "snip",
        "grasp",
        "synflow",
    ] = "magnitude"
    """What ranks the weights; the lowest go. initial-magnitude, snip, grasp and synflow prune at
    initialisation: they look at the untrained network alone."""
    scope: Literal["global", "layerwise", "erk"] = "global"
    """Among which weights they are ranked: all, those of each layer, or by ERK densities."""
    fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the surviving weights that a round prunes, such as 0.2."""
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    """Pruned rounds after the dense one."""
    output: Annotated[Literal["half", "full"], Frozen("half")] = "half"
    """Rate of the output layer under scope layerwise."""
    conv: Annotated[float | None, Frozen(None)] = Field(None, ge=0, lt=1)
    """Share that convolutions lose under scope layerwise, such as 0.1; `fraction` unless set."""
    exclude: Annotated[tuple[str, ...], Frozen(())] = Field((), strict=False)
    """Parameters that are never pruned, by name or pattern, such as [fc.*, '*.downsample.*']."""
    only: Annotated[tuple[str, ...], Frozen(("*",))] = Field(("*",), strict=False, min_length=1)
    """Of those that may be pruned, the ones that lose weights, such as [layer1.*]."""
    biases: Annotated[bool, Frozen(False)] = False
    """Whether biases are pruned too."""


class Rewind(StrictModel):
    """Where the surviving weights, and the schedule clock, go back to before a round."""

    weights: Point = "init"
    """The weights: init, an extent such as 500it, 1ep or 5%, or final (they stay)."""
    clock: Point | None = None
    """The clock: the same choices; it follows the weights unless set."""
    retrain: Extent | None = Field(None, validate_default=True)
    """Length of a round whose clock stays at final, such as 5ep, or 0it to train nothing."""

    @field_validator("retrain")
    @classmethod
    def _with_final_clock(cls, retrain: Extent | None, info: ValidationInfo) -> Extent | None:
        if not {"weights", "clock"} <= info.data.keys():
            return retrain
        clock = info.data["clock"] or info.data["weights"]
        if clock == "final" and retrain is None:
            raise ValueError(
                "missing: with the clock at final nothing is left to train. Say how long to "
                "fine-tune, such as 5ep, or set clock: init."
            )
        if clock != "final" and retrain is not None:
            raise ValueError(
                f"a round whose clock goes back to {clock} trains from there to the end. "
                f"Leave retrain out, or set clock: final."
            )
        return retrain

    @property
    def restart(self) -> str | Extent:
        """Where the clock goes back to."""
        return self.clock or self.weights


class Eval(StrictModel):
    """Measurements on the way."""

    every: Extent = Extent.parse("5%")
    """Distance between two measurements, such as 5% or 1ep."""
    episodes: Annotated[int, Frozen(5)] = Field(5, ge=1)
    """dqn: greedy episodes of a measurement, the same starts each time."""
    final: Annotated[int, Frozen(20)] = Field(20, ge=1)
    """dqn: greedy episodes at the end, whose mean return is the score."""
    window: Annotated[int, Frozen(100)] = Field(100, ge=1)
    """dqn: last training episodes whose mean return is the train_score."""
    supermask: Annotated[bool, Frozen(False)] = False
    """Whether each ticket is also scored before it is trained, as its training is in the end: on
    the test set, or by final greedy episodes."""


STOP_RULES = {
    "length": (),
    "solved": ("threshold", "hold"),
    "target": ("threshold",),
    "plateau": ("patience", "least"),
    "patience": ("patience", "least"),
    "mask-distance": ("within", "window"),
    "mask-difference": ("within",),
}
"""The rules that end a search, and the fields that each reads."""


class Stop(StrictModel):
    """When the search for the next ticket ends. The training itself goes on to its full length."""

    rule: Literal[
        "length", "solved", "target", "plateau", "patience", "mask-distance", "mask-difference"
    ] = "length"
    """What ends it: the length, a threshold held or reached, a plateau, patience with a validation
    loss that falls no more (classifier), or a mask that settles."""
    threshold: float | None = Field(None, validate_default=True)
    """solved, target: the measured value, such as 475."""
    hold: int = Field(3, ge=1)
    """solved: measurements in a row that reach the threshold."""
    patience: int = Field(5, ge=1)
    """plateau, patience: measurements without a better one."""
    least: float = Field(0.0, ge=0)
    """plateau, patience: a better one is better by more than this."""
    within: float = Field(0.1, gt=0, lt=1)
    """mask-distance, mask-difference: the largest difference, as a share of what is kept."""
    window: int = Field(5, ge=2)
    """mask-distance: masks in a row that lie within that of the newest."""
    evaluate: Annotated[Literal["full", "at-stop"], Frozen("full")] = "full"
    """Whether the score is taken at the full length, or at the stop, where training then ends."""
    length_power: Annotated[float, Frozen(0.0)] = Field(0.0, ge=0)
    """A round is as long as the dense one times (1 - fraction) ** (round * this); 0: as long."""

    @field_validator("threshold")
    @classmethod
    def _with_its_rule(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        rule = info.data.get("rule", "length")
        if threshold is None and "threshold" in STOP_RULES[rule]:
            raise ValueError(f"missing: the rule {rule} needs one, such as 475.")
        return threshold

    def length_of(self, total: int, prune: Prune, index: int) -> int:
        """Updates of a whole training in round `index`, `total` being those of the dense one."""
        return round(total * (1 - prune.fraction) ** (self.length_power * index))


class Reset(StrictModel):
    """dqn: what a pruned round finds besides its ticket and its clock."""

    optimizer: Annotated[Literal["fresh", "kept"], Frozen("fresh")] = "fresh"
    """Its moments: fresh, or as the round before left them."""
    replay: Annotated[Literal["empty", "kept", "prefilled"], Frozen("empty")] = "empty"
    """The buffer: empty, as the round before left it, or begun with play of its trained agent."""
    learning_starts: Annotated[Literal["again", "skipped"], Frozen("again")] = "again"
    """The steps before the first update: taken again, or skipped where the replay is kept."""
    target: Annotated[Literal["online", "previous"], Frozen("online")] = "online"
    """The target network: a copy of the rewound one, or the round before's trained one."""
    target_mask: Annotated[Literal["same", "dense"], Frozen("same")] = "same"
    """Whether the target starts masked as the online network, or with the pruned weights too."""
    exploration: Annotated[Literal["clock", "start", "end"], Frozen("clock")] = "clock"
    """Where the exploration schedule stands: at the clock, at its start, or over."""
    lr: Annotated[Literal["clock", "start", "end"], Frozen("clock")] = "clock"
    """Where the learning rate's schedule stands: at the clock, at its start, or over."""
    normaliser: Annotated[Literal["fresh", "rewound", "kept"], Frozen("fresh")] = "fresh"
    """Statistics of observations: fresh, of the rewind point, or of the round before's end."""
    env_seed: Annotated[Literal["new", "same"], Frozen("new")] = "new"
    """Chance of the environment and of replay: new in each round, or that of the dense round."""
    exploration_seed: Annotated[Literal["new", "same"], Frozen("new")] = "new"
    """Chance of exploration: new in each round, or that of the dense round."""

    @field_validator("learning_starts")
    @classmethod
    def _with_kept_replay(cls, learning_starts: str, info: ValidationInfo) -> str:
        if learning_starts == "skipped" and info.data.get("replay") != "kept":
            raise ValueError("the first update needs experience: skipped goes with replay: kept.")
        return learning_starts

    @property
    def carried(self) -> tuple[str, ...]:
        """What a round leaves to the one after it, besides its weights and mask."""
        return tuple(name for name in ("optimizer", "replay") if getattr(self, name) == "kept")


def _cohort(value: Any) -> str | int:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"{shown(value)} is no number of lineages: auto, or one such as 8.")


Cohort = Annotated[
    Literal["auto"] | int,
    PlainValidator(_cohort, json_schema_input_type=Literal["auto"] | Annotated[int, Field(ge=1)]),
]


class Resources(StrictModel):
    """What Ray sets aside for a trial."""

    cpus: float = Field(1.0, gt=0)
    """CPU cores."""
    gpus: float = Field(0.0, ge=0)
    """GPUs; below 1, trials share one."""
    memory: Memory | None = None
    """Memory, such as 2GB; a trial that takes more fails. Neither asked for nor bounded unless
    set."""
    accelerator: str | None = Field(
        None, json_schema_extra={"anyOf": [{"enum": [*ACCELERATORS]}, {"type": "null"}]}
    )
    """Kind of accelerator that the trial's machine must have, by Ray's name, such as A100."""
    custom: dict[str, float] = Field(default_factory=dict)
    """Amounts of other resources that the cluster has, by their names, such as {lab: 0.01}."""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"above 1, GPUs come in whole numbers, not {gpus:g}; "
                f"say {int(gpus)} or {int(gpus) + 1}."
            )
        return gpus

    @field_validator("accelerator")
    @classmethod
    def _known_to_ray(cls, accelerator: str | None) -> str | None:
        if accelerator is not None and accelerator not in ACCELERATORS:
            same = [kind for kind in ACCELERATORS if kind.lower() == accelerator.lower()]
            raise ValueError(
                f"no kind that Ray knows: {shown(accelerator)}. "
                f"{did_you_mean(accelerator, same or ACCELERATORS)}"
            )
        return accelerator

    @field_validator("custom")
    @classmethod
    def _amounts(cls, custom: dict[str, float]) -> dict[str, float]:
        faults = [
            Problem((name,), text)
            for name, amount in custom.items()
            if (text := _misused(name, amount))
        ]
        if faults:
            raise Problems(faults)
        return custom


FINEST = 0.0001
"""The smallest part of a resource that Ray tells from nothing."""
ELSEWHERE = {
    "CPU": "say resources.cpus",
    "GPU": "say resources.gpus",
    "memory": "say resources.memory",
    "object_store_memory": "Ray sets none aside for a trial; leave it out",
}


def _misused(name: str, amount: float) -> str | None:
    """Why an amount of a custom resource cannot be meant, or None."""
    known = {each.lower(): mend for each, mend in ELSEWHERE.items()}
    if name.lower().rstrip("s") in known:
        return f"is a resource of its own kind: {known[name.lower().rstrip('s')]}."
    if name.startswith("accelerator_type:"):
        kind = name.removeprefix("accelerator_type:")
        if kind in ACCELERATORS:
            return f"say resources.accelerator: {kind}."
    if not name.strip() or not name.isprintable():
        return "is no name; give that of a resource, as in `ray start --resources`."
    if amount < FINEST:
        return f"must be at least {FINEST:g}, which is the finest that Ray knows, not {amount:g}."
    if amount > 1 and amount != int(amount):
        return (
            f"above 1, resources come in whole numbers, not {amount:g}; "
            f"say {int(amount)} or {int(amount) + 1}."
        )
    return None
