"""`raylottery play`: the episodes behind a trained agent's score, again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from raylottery.cli import render
from raylottery.cli.options import DEFAULT_STORE, StoreOption


def play(
    name: Annotated[str, Parameter(help="The sweep.")],
    lineage: Annotated[str, Parameter(help="The lineage's id, or how it begins.")],
    round: Annotated[int, Parameter(help="The round; 0 is the dense one.")],
    /,
    *,
    control: Annotated[str, Parameter(help="A control of that round instead.")] = "ticket",
    episodes: Annotated[int | None, Parameter(help="How many of them; without it, all.")] = None,
    video: Annotated[
        Path | None, Parameter(help="Record them in this file, which ends in .mp4 or .gif.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Play the greedy episodes again whose mean return is an agent's score."""
    from raylottery.driver.play import play as again
    from raylottery.store import Store

    found = again(
        name, lineage, round, control, Store.existing(store), episodes=episodes, video=video
    )
    render.played(found)
    if video is not None:
        render.lines(f"wrote {video} ({video.stat().st_size / 1e3:.0f} kB)")
