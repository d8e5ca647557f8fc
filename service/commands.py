"""Entry point of ``svdraw``."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``svdraw`` and returns its exit status.

    Args:
        arguments: command line without the name of the program; ``sys.argv[1:]`` when omitted.
    """
    try:
        from service.program import SVDRAW
        from training.base.command_line import run_command
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":
            raise
        sys.stderr.write('error: only the client is installed; for the commands: pip install "svdraw[all]"\n')
        return 1
    return run_command(SVDRAW, arguments)
