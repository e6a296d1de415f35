"""`raylottery compare`: the answer to a sweep's question, from its Parquet alone."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, JsonOption, StoreOption


def compare(
    names: Annotated[tuple[str, ...], Parameter(help="One sweep or more.")],
    /,
    *,
    by: Annotated[
        tuple[str, ...],
        Parameter(
            help="What to compare: prune.scope, rewind.weights, another field, control. Several: "
            "each combination of their values."
        ),
    ] = (),
    at_density: Annotated[
        tuple[float, ...],
        Parameter(help="Compare at this density alone; may be repeated."),
    ] = (),
    metric: Annotated[str, Parameter(help="The column of rounds.parquet to compare.")] = "score",
    against: Annotated[
        str | None, Parameter(help="The value that the others are compared with.")
    ] = None,
    matched: Annotated[
        Literal["density", "flops", "pruned"],
        Parameter(
            help="What both sides have the same share of: weights, FLOPs of the dense network, or "
            "weights of the layers that each arm prunes."
        ),
    ] = "density",
    reference: Annotated[
        str | None,
        Parameter(help="Set published results beside ours instead, as frankle2019-lenet."),
    ] = None,
    format: Annotated[
        Literal["text", "csv", "latex", "markdown"], Parameter(help="How to print a comparison.")
    ] = "text",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Answer the question of a sweep, paired by seed at matched density."""
    from raylottery.analysis import check, load
    from raylottery.analysis import compare as answer
    from raylottery.analysis.export import comparison_text
    from raylottery.errors import UsageError

    if not names:
        raise UsageError("name a sweep to compare: raylottery compare NAME --by prune.scope")
    if bool(by) == bool(reference):
        raise UsageError(
            "say what to compare: --by prune.scope, or --reference frankle2019-lenet for "
            "published results beside ours; one of the two.\nSee: raylottery compare --help"
        )
    if json and format != "text":
        raise UsageError(f"--json and --format {format} are two ways to print: leave one out.")
    frame = load(*names, store=store)
    if reference:
        if format != "text":
            raise UsageError("published results are printed as text or with --json.")
        if at_density or against or metric != "score" or matched != "density":
            raise UsageError(
                "published results have densities and columns of their own: leave out "
                "--at-density, --metric, --against and --matched with --reference."
            )
        findings = check(frame, reference)
        if json:
            render.json({"rows": [finding.to_row() for finding in findings]})
        else:
            render.references(findings)
        return
    found = answer(
        frame, by, at_density=at_density or None, metric=metric, against=against, matched=matched
    )
    if json:
        render.json({"rows": found.to_rows(), "notes": found.notes})
    elif format == "text":
        render.comparison(found)
    else:
        render.written(comparison_text(found, format))
