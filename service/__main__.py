"""Entry point of ``python -m service``."""

import sys

from service.settings import ServiceSettings
from training.command_line import run_command

if __name__ == "__main__":
    sys.exit(run_command(ServiceSettings))
