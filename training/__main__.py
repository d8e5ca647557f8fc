"""Entry point of ``python -m training``."""

import sys

from training.base.command_line import run_command
from training.commands import Training

if __name__ == "__main__":
    sys.exit(run_command(Training))
