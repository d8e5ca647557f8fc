"""Entry point of ``python -m service``, which is ``svdraw serve``."""

import sys

from service.commands import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
