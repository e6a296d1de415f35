"""The command line: one small file a command, loaded when it is called.

Exit codes: 0 done; 1 some lineages failed; 2 wrong usage or sweep file; 3 not found or
unreachable; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from raylottery import __version__
from raylottery.cli import render
from raylottery.errors import RaylotteryError


COMMANDS = {
    "plan": "Show what a sweep would train, and what of it is done; starts nothing.",
    "run": "Train what is not done of a sweep; safe to repeat.",
    "ls": "List the sweeps of a store.",
    "status": "Show one sweep: arms by seeds, rounds done, first errors.",
    "compare": "Answer the question of a sweep, paired by seed at matched density.",
    "export": "Write a sweep's rounds as csv, parquet or latex.",
    "ticket": "Write one round's ticket as safetensors, for plain torch.",
    "doctor": "Check versions, GPUs, Ray, data sets and a store.",
}

app = App(
    name="raylottery",
    help="Lottery-ticket studies at any scale, on Ray.",
    version=__version__,
    help_epilogue="Start with: raylottery run sweeps/quickstart.yaml",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
for name, summary in COMMANDS.items():
    app.command(f"raylottery.cli.{name}:{name}", name=name, help=summary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return app(words) or 0
    except RaylotteryError as error:
        render.error(str(error))
        return error.exit_code
    except CycloptsError as error:
        render.error(f"{error}\nSee: raylottery {' '.join([*words[:1], '--help'])}")
        return 2
    except KeyboardInterrupt:
        render.error("interrupted")
        return 130
