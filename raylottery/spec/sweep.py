"""The sweep file as a model. Each field's help stands under it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from raylottery.spec.axes import checked_axes
from raylottery.spec.controls import Control
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.extent import Extent
from raylottery.spec.keep import Keep
from raylottery.spec.narrow import hidden_widths
from raylottery.spec.problems import Problem, Problems, StrictModel, changed, shown
from raylottery.spec.quantity import Duration
from raylottery.spec.sections import (
    AT_INITIALISATION,
    FROM_BEGINNING,
    STOP_RULES,
    Cohort,
    Eval,
    Prune,
    Reset,
    Resources,
    Rewind,
    Stop,
)
from raylottery.spec.trainer import Trainer


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Sweep(StrictModel):
    """What to compare: a base, axes to vary, seeds."""

    name: str
    """Name of the sweep and of its folder in the store."""
    trainer: Trainer
    """What trains a round."""
    prune: Prune
    """What each round prunes."""
    rewind: Rewind = Rewind()
    """Where the surviving weights, and the schedule clock, go back to before a round."""
    eval: Eval = Field(Eval(), validate_default=True)
    """Measurements on the way."""
    stop: Stop = Field(Stop(), validate_default=True)
    """When the search for the next ticket ends."""
    reset: Reset = Field(Reset(), validate_default=True)
    """dqn: what a pruned round finds besides its ticket and its clock."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(strict=False, min_length=1)
    """One lineage each in every arm, such as [0, 1, 2]."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """Lists of values by field, such as `prune.scope: [global, layerwise]`; `zip:` pairs lists."""
    controls: tuple[Control, ...] = Field((), strict=False)
    """Altered tickets to train beside each ticket: names such as random-ticket, or sections such
    as {kind: permuted-both, lineage: own, at: every 3, draws: 3}."""
    resources: Resources = Resources()
    """What Ray sets aside for a trial."""
    cohort: Cohort = Field("auto", validate_default=True)
    """How many lineages a trial trains, as many side by side as it has CPUs: a number, or auto, an
    even share of those that are ready. One under engines that train no lineages side by side."""
    checkpoint: Extent | None = Field(None, validate_default=True)
    """classifier: how often a round under way is put aside, such as 5ep, to go on from there after
    a kill; only finished rounds are kept unless set."""
    retries: int = Field(3, ge=0)
    """How often a failed trial starts again, from its last finished round."""
    timeout: Duration | None = None
    """Longest time a trial may go without finishing a round, such as 30m; it is then ended and
    starts again as one that failed."""
    keep: Keep = Keep(what="all")
    """What of finished rounds stays in the store besides their records, curves and layers."""

    @field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(
                f"{shown(name)} cannot name a folder. Use letters, digits, `.`, `_` and `-`, "
                f"beginning with a letter or digit, no `..`, at most 64 characters."
            )
        return name

    @field_validator("prune")
    @classmethod
    def _scorable(cls, prune: Prune, info: ValidationInfo) -> Prune:
        trainer = info.data.get("trainer")
        if isinstance(trainer, DQNTrainer) and (text := _unscorable(prune.score, trainer)):
            raise Problems([Problem(("score",), text)])
        return prune

    @field_validator("rewind", "eval")
    @classmethod
    def _within_training(cls, part: Rewind | Eval, info: ValidationInfo) -> Rewind | Eval:
        trainer = info.data.get("trainer")
        if trainer is not None:
            faults = [
                Problem((name,), text)
                for name in type(part).model_fields
                if isinstance(extent := getattr(part, name), Extent)
                and (text := _misfit(name, extent, trainer))
            ]
            if faults:
                raise Problems(faults)
        return part

    @field_validator("cohort")
    @classmethod
    def _side_by_side(cls, cohort: Cohort, info: ValidationInfo) -> Cohort:
        trainer = info.data.get("trainer")
        if trainer is not None and cohort not in ("auto", 1) and not trainer.side_by_side:
            raise ValueError(
                f"the engine {trainer.engine} trains one lineage at a time; leave it out, or say "
                f"trainer.engine: compiled."
            )
        return cohort

    @field_validator("resources")
    @classmethod
    def _of_its_engine(cls, resources: Resources, info: ValidationInfo) -> Resources:
        trainer = info.data.get("trainer")
        if trainer is not None and trainer.engine == "compiled" and resources.gpus:
            other = "rllib" if isinstance(trainer, DQNTrainer) else "torch"
            text = "the compiled engine computes on CPUs alone; leave it out, or say "
            raise Problems([Problem(("gpus",), f"{text}trainer.engine: {other}.")])
        return resources

    @field_validator("checkpoint")
    @classmethod
    def _inside_a_round(cls, checkpoint: Extent | None, info: ValidationInfo) -> Extent | None:
        trainer = info.data.get("trainer")
        if checkpoint is None or trainer is None:
            return checkpoint
        if isinstance(trainer, DQNTrainer):
            raise ValueError("an agent's round cannot go on from its middle; leave it out.")
        if text := _misfit("checkpoint", checkpoint, trainer):
            raise ValueError(text)
        return checkpoint

    @field_validator("stop")
    @classmethod
    def _of_its_rule(cls, stop: Stop, info: ValidationInfo) -> Stop:
        read = {"rule", "evaluate", "length_power", *STOP_RULES[stop.rule]}
        faults = [
            Problem((name,), f"means nothing under the rule {stop.rule}; leave it out.")
            for name, value in changed(stop).items()
            if name not in read
        ]
        if stop.rule == "length" and stop.evaluate == "at-stop":
            text = "the rule length stops nothing before the end; leave it out, or say rule."
            faults.append(Problem(("evaluate",), text))
        trainer = info.data.get("trainer")
        if isinstance(trainer, DQNTrainer) and stop.rule == "patience":
            text = "an agent has no validation loss; say plateau, which goes by its returns."
            faults.append(Problem(("rule",), text))
        score = getattr(info.data.get("prune"), "score", None)
        if stop.rule.startswith("mask-") and score in AT_INITIALISATION:
            text = f"prune.score: {score} gives one mask whatever is trained; take another rule."
            faults.append(Problem(("rule",), text))
        if trainer is not None and trainer.metric == "accuracy" and (stop.threshold or 0) > 1:
            text = f"accuracy is a share of 1, never {stop.threshold:g}; say one such as 0.95."
            faults.append(Problem(("threshold",), text))
        if faults:
            raise Problems(faults)
        return stop

    @field_validator("stop")
    @classmethod
    def _long_enough(cls, stop: Stop, info: ValidationInfo) -> Stop:
        if not stop.length_power or not {"trainer", "prune", "rewind"} <= info.data.keys():
            return stop
        trainer, prune = info.data["trainer"], info.data["prune"]
        restart = info.data["rewind"].restart
        if restart == "final":
            text = "with the clock at final every round is rewind.retrain long; leave it out."
            raise Problems([Problem(("length_power",), text)])
        clock = trainer.at(restart) if isinstance(restart, Extent) else 0
        last = stop.length_of(trainer.total_steps, prune, prune.rounds)
        if last <= clock:
            text = (
                f"round {prune.rounds} would be {last} updates long, and its clock starts at "
                f"{clock}: nothing is left to train. Lower it, or prune.rounds."
            )
            raise Problems([Problem(("length_power",), text)])
        return stop

    @field_validator("eval", "reset")
    @classmethod
    def _of_its_kind(cls, part: Eval | Reset, info: ValidationInfo) -> Eval | Reset:
        trainer = info.data.get("trainer")
        if trainer is not None and trainer.kind != "dqn":
            faults = [
                Problem((name,), f"is for kind dqn, not {trainer.kind}; leave it out.")
                for name in changed(part)
                if name not in ("every", "supermask")
            ]
            if faults:
                raise Problems(faults)
        return part

    @field_validator("reset")
    @classmethod
    def _of_what_is_there(cls, reset: Reset, info: ValidationInfo) -> Reset:
        trainer = info.data.get("trainer")
        if not isinstance(trainer, DQNTrainer):
            return reset
        faults = []
        if reset.normaliser != "fresh" and not trainer.normalise:
            text = "no statistics are taken; leave it out, or say trainer.normalise: true."
            faults.append(Problem(("normaliser",), text))
        if reset.lr != "clock" and trainer.lr_end == 1:
            text = "the learning rate never changes; leave it out, or set trainer.lr_end."
            faults.append(Problem(("lr",), text))
        stop = info.data.get("stop", Stop())
        if stop.rule != "length" and stop.evaluate == "full":
            # What is carried is that of the full training, which a search that ended never saw.
            text = "goes on where the search ended; say stop.evaluate: at-stop, or leave it out."
            faults += [Problem((name,), text) for name in reset.carried]
        if faults:
            raise Problems(faults)
        return reset

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return _once(seeds, "seed")

    @field_validator("axes", mode="before")
    @classmethod
    def _axes(cls, axes: Any, info: ValidationInfo) -> Any:
        trainer = info.data.get("trainer")
        return checked_axes(axes, cls, trainer.kind if trainer else None)

    @field_validator("controls")
    @classmethod
    def _of_this_study(
        cls, controls: tuple[Control, ...], info: ValidationInfo
    ) -> tuple[Control, ...]:
        _once(tuple(control.name for control in controls), "control")
        faults = []
        for i, control in enumerate(controls):
            if text := _unfit(control, info.data):
                faults.append(Problem((i,), text))
            if "prune" in info.data:
                prune = info.data["prune"]
                misses = control.misses(prune.fraction, prune.rounds)
                faults += [Problem((i, *problem.key), problem.text) for problem in misses]
        if faults:
            raise Problems(faults)
        return controls


def _unscorable(score: str, trainer: DQNTrainer) -> str | None:
    """Why a score cannot be worked out for an agent, or None."""
    if score in ("snip", "grasp"):
        return (
            f"{score} looks at training data, and an agent has none before it plays; say synflow."
        )
    if score == "synflow" and (trainer.dueling or trainer.atoms > 1):
        what = "dueling streams" if trainer.dueling else "a distribution over atoms"
        return f"synflow adds outputs up, and those of {what} cancel; say initial-magnitude."
    return None


def _unfit(control: Control, said: Mapping[str, Any]) -> str | None:
    """Why a control makes no sense in a study, or None."""
    kind = control.kind
    prune, trainer, reset = (said.get(name) for name in ("prune", "trainer", "reset"))
    if prune is not None and kind == "random-global" and "*" not in prune.only:
        return (
            "random-global is drawn over all layers, and prune.only keeps some whole; take "
            "random-ticket."
        )
    scored = control.lineage == "own" and control.sources.scope is None
    if prune is not None and scored and prune.score in FROM_BEGINNING:
        return (
            f"an own lineage of {kind} begins with other weights than the seed's, which "
            f"prune.score: {prune.score} looks at; say lineage: branch."
        )
    seeds = ("env_seed", "exploration_seed")
    if kind == "replicate" and reset and all(getattr(reset, name) == "same" for name in seeds):
        return (
            "a replicate differs from its ticket in chance alone, and reset.env_seed and "
            "reset.exploration_seed leave it none; say new for one of them."
        )
    if control.sources.shuffles and isinstance(trainer, DQNTrainer):
        return f"{kind} shuffles a data set, and an agent has none; take another control."
    if control.sources.shuffles and trainer is not None and trainer.shuffle != "none":
        return (
            f"{kind} shuffles the data, and trainer.shuffle: {trainer.shuffle} does so already; "
            f"leave one of them out."
        )
    if kind == "small-dense" and trainer is not None:
        if hidden_widths(trainer) is None:
            return (
                f"small-dense narrows hidden dense layers, and {trainer.model} has others; take "
                f"another control, or an mlp."
            )
        takes = {"optimizer": "kept", "replay": "prefilled", "target": "previous"}
        for name, value in takes.items():
            if reset is not None and getattr(reset, name) == value:
                return (
                    f"small-dense has other shapes than the round before, from which "
                    f"reset.{name}: {value} takes something; take another control, or another "
                    f"reset."
                )
    return None


def _once(values: tuple, noun: str) -> tuple:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise Problems([Problem((i,), f"the {noun} {value} is listed twice; take one out.")])
    return values


def _misfit(name: str, extent: Extent, trainer: Trainer) -> str | None:
    """Why a length cannot be meant in a training, or None."""
    total = trainer.total_steps
    training = f"the training ({trainer.length}, {total} updates)"
    point = name in ("weights", "clock")
    try:
        steps = trainer.at(extent) if point else trainer.steps(extent)
    except ValueError as error:
        return str(error)
    if point:
        if steps >= total:
            return f"{extent} is not before the end of {training}; for its end say final."
    elif steps < 1:
        if name == "retrain" and extent.amount == 0 and trainer.kind == "classifier":
            return None
        return f"{extent} of {training} comes to no update at all; say at least 1it."
    elif name == "every" and steps > total:
        return f"{extent} is longer than {training}; say at most 100%."
    return None
