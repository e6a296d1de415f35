"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


DEFAULT_STORE = "./results"

StoreOption = Annotated[
    str,
    Parameter(
        name="--store",
        env_var="RAYLOTTERY_STORE",
        help="Where results live: a path, or a URI such as s3://bucket/folder.",
    ),
]
SetOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        help="Override a field of the sweep file, as prune.rounds=3; may be repeated.",
    ),
]
JsonOption = Annotated[bool, Parameter(name="--json", help="Print JSON instead.")]
JobsOption = Annotated[
    str | None,
    Parameter(
        name="--address",
        help="The cluster's Ray Jobs, as http://HOST:8265: adds what they know.",
    ),
]
MostOption = Annotated[int | None, Parameter(help="The most trials at a time.")]
OnlyOption = Annotated[
    Literal["failed"] | None, Parameter(help="Train only the lineages that failed before.")
]
ReplaceOption = Annotated[
    bool, Parameter(help="Give the sweep's name to this file, though its trainer differs.")
]
TrackOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--track",
        help="Show each finished round in tensorboard[:DIR], mlflow[:URI] or wandb[:PROJECT]; "
        "may be repeated.",
    ),
]
