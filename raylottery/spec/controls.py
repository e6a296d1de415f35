"""Controls: the same round trained from a ticket altered in one stated way."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from raylottery.errors import did_you_mean
from raylottery.spec.problems import Problem, Problems, StrictModel, changed, shown


Mode = Literal["branch", "own"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the mask and the weights of a control come from."""

    mask: str
    """`imp` (the ticket's own), `permuted-layer`, `permuted-global`, `random-layerwise`,
    `random-erk`, or `dense`: a network narrowed to what the ticket keeps."""
    weights: str
    """`ticket` (the ticket's own), `reinit`, `permuted-layer`, `sign-constant` or `sign-kept`."""
    modes: tuple[Mode, ...] = ("branch", "own")
    """How it may be grown, the way it is unless asked first."""
    replicates: bool = False
    """Whether it is trained with another order of the data than the ticket."""
    shuffles: Literal["pixels", "labels"] | None = None
    """What of a classifier's data is shuffled before it is trained."""

    @property
    def scope(self) -> str | None:
        """The scope under which its mask is drawn at random; None where scores draw it."""
        scope = self.mask.removeprefix("random-")
        return scope if scope != self.mask else None


CONTROLS = {
    "reinit": Sources(mask="imp", weights="reinit"),
    "permuted-weights": Sources(mask="imp", weights="permuted-layer"),
    "permuted-mask": Sources(mask="permuted-layer", weights="ticket"),
    "permuted-both": Sources(mask="permuted-layer", weights="permuted-layer"),
    "random-ticket": Sources(mask="permuted-layer", weights="reinit"),
    "random-global": Sources(mask="permuted-global", weights="reinit"),
    "small-dense": Sources(mask="dense", weights="reinit", modes=("branch",)),
    "random-pruned": Sources(mask="random-layerwise", weights="ticket", modes=("own",)),
    "erk-random": Sources(mask="random-erk", weights="ticket", modes=("own",)),
    "sign-constant": Sources(mask="imp", weights="sign-constant"),
    "sign-kept-reinit": Sources(mask="imp", weights="sign-kept"),
    "replicate": Sources(mask="imp", weights="ticket", modes=("branch",), replicates=True),
    "shuffled-pixels": Sources(mask="imp", weights="ticket", modes=("branch",), shuffles="pixels"),
    "shuffled-labels": Sources(mask="imp", weights="ticket", modes=("branch",), shuffles="labels"),
}

FROM_SCRATCH = ("reinit", "sign-constant", "sign-kept")
"""Weights that no training has seen: there is nothing of them to fine-tune."""

_EVERY = re.compile(r"every ([1-9][0-9]{0,3})")
_FORMS = "every 3, densities such as [0.2, 0.05], or rounds such as [3, 6]"


class Control(StrictModel):
    """An altered ticket to train beside each ticket; written as its name, or as a section."""

    kind: str = Field(json_schema_extra={"enum": [*CONTROLS]})
    """What is altered, such as random-ticket; docs/controls.md says of each what it keeps."""
    lineage: Mode | None = Field(None, validate_default=True)
    """branch: altered from the lineage's ticket of each round; own: from a ticket that the
    control's own training gave, round after round. Unless set it branches, if it can."""
    at: str | tuple[int, ...] | tuple[float, ...] = "every 1"
    """Where: `every 3` rounds, at rounds such as [3, 6], or at those whose planned densities come
    nearest to some, such as [0.2, 0.05]. An own lineage trains all rounds up to the last of them.
    """
    draws: int = Field(1, ge=1, le=1000)
    """How many of it are drawn and trained at each point, each by another chance."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": _known(value)}
        if not isinstance(value, dict | Control):
            raise ValueError(
                f"expected the name of a control, or a section such as "
                f"{{kind: reinit, draws: 3}}, found {shown(value)}."
            )
        return value

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        return _known(kind)

    @field_validator("lineage")
    @classmethod
    def _of_its_kind(cls, lineage: Mode | None, info: ValidationInfo) -> Mode | None:
        if "kind" not in info.data:
            return lineage
        kind = info.data["kind"]
        modes = CONTROLS[kind].modes
        if lineage is None:
            return modes[0]
        if lineage not in modes:
            why = {
                "branch": "prunes at random from the dense network on, along lineages of its own",
                "own": "has no search of its own, so it branches",
            }[lineage]
            raise ValueError(f"{kind} {why}; leave it out, or say {modes[0]}.")
        return lineage

    @field_validator("at", mode="before")
    @classmethod
    def _points(cls, at: Any) -> Any:
        if isinstance(at, str) and _EVERY.fullmatch(at):
            return at
        if not isinstance(at, list | tuple) or not at:
            raise ValueError(f"{shown(at)} picks no rounds; say {_FORMS}.")
        faults = []
        for i, point in enumerate(at):
            if type(point) not in (int, float) or type(point) is not type(at[0]):
                text = f"{shown(point)} does not belong there; say {_FORMS}."
            elif type(point) is int and point < 1:
                text = f"round {point} has no controls; say 1 or more."
            elif type(point) is float and not 0 < point < 1:
                text = f"a density of {point:g} has no controls; say one between 0 and 1."
            elif point in at[:i]:
                text = f"{point:g} is listed twice; take one out."
            else:
                continue
            faults.append(Problem((i,), text))
        if faults:
            raise Problems(faults)
        return tuple(at)

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        said = changed(self)
        if self.lineage == CONTROLS[self.kind].modes[0]:
            del said["lineage"]
        if isinstance(self.at, tuple) and "at" in said:
            said["at"] = list(self.at)
        return self.kind if said.keys() == {"kind"} else said

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        form = handler(schema)
        section = handler.resolve_ref_schema(form)
        whole = dict(section)
        section.clear()
        section["anyOf"] = [{"enum": [*CONTROLS], "type": "string"}, whole]
        return form

    @property
    def sources(self) -> Sources:
        """Where its mask and weights come from."""
        return CONTROLS[self.kind]

    @property
    def name(self) -> str:
        """As comparisons call it."""
        return f"{self.kind} (own)" if self.lineage == "own" else self.kind

    @property
    def in_words(self) -> str:
        """Its name, and where and how often it is drawn, if not once beside every ticket."""
        said = [] if self.at == "every 1" else [f"at {shown_points(self.at)}"]
        said += [f"{self.draws} draws"] if self.draws > 1 else []
        return f"{self.name} ({', '.join(said)})" if said else self.name

    def rounds(self, fraction: float, last: int) -> tuple[int, ...]:
        """The rounds that have it, of `last` in all, each of which prunes `fraction`."""
        if isinstance(self.at, str):
            every = int(self.at.removeprefix("every "))
            points = {*range(every, last + 1, every)}
        else:
            points = {
                point if isinstance(point, int) else nearest_round(point, fraction, last)
                for point in self.at
            }
        if self.lineage == "own" and points:
            return tuple(range(1, max(points) + 1))
        return tuple(sorted(points))

    def misses(self, fraction: float, last: int) -> list[Problem]:
        """What of `at` no round comes to, and what would."""
        if isinstance(self.at, str):
            if self.rounds(fraction, last):
                return []
            text = f"{self.at} comes to none of the {last} rounds; say a lower number."
            return [Problem(("at",), text)]
        found = []
        for i, point in enumerate(self.at):
            if isinstance(point, int):
                if point > last:
                    text = f"round {point} is never reached: prune.rounds is {last}; say at most "
                    found.append(Problem(("at", i), f"{text}{last}, or raise it."))
            elif text := _unreached(point, fraction, last):
                found.append(Problem(("at", i), text))
        return found


def _known(kind: str) -> str:
    if kind not in CONTROLS:
        raise ValueError(f"no such control: {shown(kind)}. {did_you_mean(kind, CONTROLS)}")
    return kind


def shown_points(at: str | Sequence[float]) -> str:
    """Where a control is drawn, as it stands in a sweep file."""
    return at if isinstance(at, str) else f"[{', '.join(f'{point:g}' for point in at)}]"


def nearest_round(density: float, fraction: float, last: int) -> int:
    """The round whose planned density, (1 - fraction) ** round, comes nearest on a log scale.

    Of two that are equally near, the denser.
    """
    step = math.log(1 - fraction)
    return min(range(last + 1), key=lambda index: abs(math.log(density) - index * step))


def _unreached(density: float, fraction: float, last: int) -> str | None:
    """Why no pruned round stands for a density, or None."""
    index = nearest_round(density, fraction, last)
    depth = math.log(density) / math.log(1 - fraction)
    if index and depth <= last + 0.5:
        return None
    near = [i for i in (last - 1, last) if i] if index else [1]
    nearest = " and ".join(f"{(1 - fraction) ** i:.3g} (round {i})" for i in near)
    if not index:
        return f"{density:g} is nearer to the dense round, which has no control; say {nearest}."
    return (
        f"{density:g} is never reached: the nearest are {nearest}. Say one of them, or raise "
        f"prune.rounds to {round(depth)}."
    )
