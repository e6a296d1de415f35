"""The sweep file as a model. Each field's help stands under it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from raylottery.errors import did_you_mean
from raylottery.spec.axes import checked_axes
from raylottery.spec.controls import CONTROLS
from raylottery.spec.dqn import DQNTrainer
from raylottery.spec.extent import Extent
from raylottery.spec.keep import Keep
from raylottery.spec.problems import Problem, Problems, StrictModel, changed, shown
from raylottery.spec.quantity import Duration
from raylottery.spec.sections import STOP_RULES, Eval, Prune, Reset, Resources, Rewind, Stop
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
    controls: tuple[Annotated[str, Field(json_schema_extra={"enum": [*CONTROLS]})], ...] = Field(
        (), strict=False
    )
    """Altered tickets to train beside each ticket."""
    resources: Resources = Resources()
    """What Ray sets aside for a trial."""
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
                if name != "every"
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
    def _known_controls(cls, controls: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        faults = [
            Problem((i,), f"no such control: {shown(name)}. {did_you_mean(name, CONTROLS)}")
            for i, name in enumerate(controls)
            if name not in CONTROLS
        ]
        if "random-global" in controls and "*" not in getattr(info.data.get("prune"), "only", "*"):
            text = "random-global is drawn over all layers, and prune.only keeps some whole; take "
            faults.append(Problem((controls.index("random-global"),), text + "random-ticket."))
        if faults:
            raise Problems(faults)
        return _once(controls, "control")


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
