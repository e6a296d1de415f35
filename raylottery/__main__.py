"""The command, also as `python -m raylottery`."""

import sys


def main() -> int:
    """Load the command and run it; its exit code."""
    try:
        from raylottery.cli import main as command
    except KeyboardInterrupt:  # loading takes a part of a second, and Ctrl-C may come in it
        sys.stderr.write("raylottery: interrupted\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
