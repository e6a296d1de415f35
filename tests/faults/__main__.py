"""Tells many stories, and prints what came of them by kind of disturbance.

    python -m tests.faults 200 --seed 0 --ray 60 --out faults.jsonl
    python -m tests.faults 20 --seed 100000     # of the compiled engine
    python -m tests.faults --story 17

Each story's outcome is a line of the file; stories that are there already are not told again. The
table is of all that the file has, so that several runs add up.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.faults.play import play
from tests.faults.stage import Workshop
from tests.faults.stories import Story, stories
from tests.faults.tellers import table, tell_all, told


APART = 100
"""Numbers that two runs are apart at least."""

MARKS = ("<!-- stories -->", "<!-- /stories -->")


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def put(found: str, page: Path, what: str) -> None:
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{what}.\n\n{found}{MARKS[1]}{after}")


def stretches(seeds: Iterable[int]) -> str:
    """Which stories they are, for people: a run takes them from its seed on, and leaves out those
    of a place that it has enough of."""
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if not found or seed - found[-1][-1] > APART:
            found.append([])
        found[-1].append(seed)
    return " and ".join(f"{len(part)} from {part[0]} to {part[-1]}" for part in found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("count", type=int, nargs="?", default=12, help="how many stories")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--ray", type=int, help="how many of them on Ray; 3 in 10 if left out")
    parser.add_argument("--at-a-time", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep each outcome here, and go on from there")
    parser.add_argument("--json", type=Path, help="write all outcomes at the end")
    parser.add_argument("--page", type=Path, help="put the table there, between its marks")
    parser.add_argument("--story", type=int, help="tell this one alone, with all that is said")
    parser.add_argument("--plans", action="store_true", help="only show what would be told")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the stories under way clear up
    if options.story is not None:
        with Workshop() as alone:
            outcome = play(Story.of(options.story), alone)
        write(f"{outcome}\n")
        return 0 if outcome.sound else 1
    on_ray = options.count * 3 // 10 if options.ray is None else options.ray
    wanted = list(stories(options.seed, options.count - on_ray, on_ray))
    if options.plans:
        write("".join(f"{story}\n" for story in wanted))
        return 0
    known = told(options.out)
    outcomes = {story.seed: known[story.seed] for story in wanted if story.seed in known}
    left = [story for story in wanted if story.seed not in outcomes]
    for outcome in tell_all(left, options.at_a_time):
        outcomes[outcome.seed] = outcome
        if options.out is not None:
            with options.out.open("a") as lines:
                lines.write(json.dumps(outcome.to_json()) + "\n")
        write(f"{len(outcomes)} of {len(wanted)}, {outcome.seconds:.0f} s: {outcome.plan}\n")
        if not outcome.sound:
            write(f"{outcome}\n\n")
    every = {**known, **outcomes}
    found = table(every.values())
    write(f"\n{found}")
    if options.page is not None:
        put(found, options.page, f"{len(every)} stories: {stretches(every)}")
    if options.json is not None:
        told_of = [outcomes[seed].to_json() for seed in sorted(outcomes)]
        options.json.write_text(json.dumps(told_of, indent=1) + "\n")
    return 0 if all(outcome.sound for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
