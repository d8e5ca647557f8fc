"""Entry point of ``python -m training``."""

import sys

from training.command_line import run_command
from training.settings import Training

if __name__ == "__main__":
    sys.exit(run_command(Training))
