"""Entry point of ``python -m index``."""

import sys

from index.commands import Index
from training.base.command_line import run_command

if __name__ == "__main__":
    sys.exit(run_command(Index))
