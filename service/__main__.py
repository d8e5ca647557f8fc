"""Entry point of ``python -m service``."""

import sys

from service.commands import Serve
from training.base.command_line import run_command

if __name__ == "__main__":
    sys.exit(run_command(Serve))
