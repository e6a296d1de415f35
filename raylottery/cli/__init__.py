"""The command line: one small file a command, loaded when it is called.

Exit codes: 0 done; 1 some lineages failed, or a file of the store is damaged; 2 wrong usage or
sweep file, or a store of a newer raylottery; 3 not found or unreachable; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

from raylottery import __version__
from raylottery.cli import render
from raylottery.errors import RaylotteryError


COMMANDS = {
    "plan": "Show what a sweep would train, and what of it is done; starts nothing.",
    "run": (
        "Train what is not done of a sweep; safe to repeat.\n\n"
        "Ctrl-C once finishes the running rounds and writes the tables; twice stops at once. Run "
        "it again to go on."
    ),
    "submit": (
        "Hand a sweep to a Ray cluster as a job, from outside.\n\n"
        "It returns at once and says how to watch, read and cancel what it started; the sweep "
        "goes on whatever becomes of this machine. Submitting a finished sweep costs nothing."
    ),
    "ls": "List the sweeps of a store.",
    "status": (
        "Show one sweep: arms by seeds, rounds done, what runs, time left, first errors.\n\n"
        "It reads the store alone, so it answers when the cluster is gone."
    ),
    "logs": (
        "Print the logs of a sweep's lineages.\n\n"
        "They are kept in the store, so they are there when the cluster is gone."
    ),
    "cancel": (
        "End all runs of a sweep: when their running rounds are done, or at once.\n\n"
        "It asks through the store, wherever they run. No finished round is lost, and the next "
        "run goes on from there."
    ),
    "compare": "Answer the question of a sweep, paired by seed at matched density.",
    "report": (
        "Write one self-contained page about a sweep, or several.\n\n"
        "It opens on the answer and needs no network: figures, tables, failures and methods are "
        "in the one file. A sweep that is not finished gives a page that says what is missing."
    ),
    "analyse": (
        "Probe a sweep's stored tickets, and write what is found as one more table.\n\n"
        "connectivity: test error on the line between a ticket and its replicate. overlap: what "
        "masks have in common. profiles: what masks leave of each layer. inputs: which inputs are "
        "still read. dormant: units that do nothing. size: parameters and multiply-adds. Nothing "
        "is trained; raylottery.load(NAME).analysis(KIND) reads the table."
    ),
    "export": "Write a sweep's rounds as csv, parquet or latex.",
    "ticket": (
        "Write one round's ticket as safetensors, for plain torch.\n\n"
        "The file holds the weights the round started from (start.NAME), its mask (mask.NAME) and "
        "the weights it ended with (trained.NAME), under the network's own parameter names."
    ),
    "play": (
        "Play the greedy episodes again whose mean return is an agent's score.\n\n"
        "Each is the very episode that was measured, from the same seed, and nothing is trained. "
        "A video needs pip install 'raylottery[video]'."
    ),
    "prune-store": (
        "Remove what no sweep of a store refers to; without --yes, only say what would go.\n\n"
        "Rounds and snapshots of no sweep, attempts that came to nothing, and what killed runs "
        "left. To remove a sweep and all that is its own, remove its folder in STORE/sweeps "
        "first."
    ),
    "doctor": "Check versions, GPUs, Ray, data sets and a store.",
}
"""What each command does: its first sentence for the list, all of it for its own help."""

app = App(
    name="raylottery",
    help="Lottery-ticket studies at any scale, on Ray.",
    version=__version__,
    help_epilogue="Start with: raylottery run sweeps/quickstart.yaml",
    help_format="plaintext",
    default_parameter=Parameter(negative="", show_default=lambda default: default or None),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
for name, text in COMMANDS.items():
    module = name.replace("-", "_")
    app.command(f"raylottery.cli.{module}:{module}", name=name, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    render.spell_out_what_streams_cannot_write()
    try:
        with render.warnings():
            return app(words) or 0
    except RaylotteryError as error:
        render.error(str(error))
        return error.exit_code
    except CycloptsError as error:
        see = " ".join(["raylottery", *(error.command_chain or ()), "--help"])
        render.error(f"{explained(error)}\nSee: {see}")
        return 2
    except KeyboardInterrupt:
        render.error("interrupted")
        return 130


def explained(error: CycloptsError) -> str:
    """What is wrong with the words of a command line."""
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"nothing is given for {error.argument.name}. ({error.argument.parameter.help})"
    if isinstance(error, UnusedCliTokensError):
        return f"one word too many: {' '.join(error.unused_tokens or ())}"
    return str(error)
