"""Honest clients beside one attacker at a time: how many of their searches succeed, and how long they take.

    python bench/attacks.py --gallery GALLERY --sketches DIR --seconds 30 --json attacks.json
    python bench/attacks.py --gallery GALLERY --sketches DIR --seconds 10 --attacks "slow bodies" "many scans"

Starts the service on a copy of the gallery, on its own port, and stops it at the end. --clients clients search without
pause, each from an address of its own (127.0.1.N). Before every attack they are measured for a third of the time alone;
then for --seconds beside the attacker, who has another address (127.0.2.1) and no key. Ratios compare the two.

Clients, attacker and service share the machine's cores. The attacker is a process of its own with niceness 10, so that
the figures tell of the service's work rather than of the attacker's.
"""

from argparse import Namespace
from pathlib import Path

from measurements.command import Parser, positive, run


def parser() -> Parser:
    found = Parser(__doc__)
    found.add_argument("--gallery", type=Path, required=True, help="folder of the gallery; it is copied")
    found.add_argument("--sketches", type=Path, required=True, help="folder of sketches that honest clients search by")
    found.add_argument("--attacks", nargs="+", metavar="NAME", help="names of the attacks; by default every one")
    found.add_argument("--clients", type=positive, default=16, help="number of honest clients")
    found.add_argument("--seconds", type=positive, default=30, help="duration of each attack, in seconds")
    found.add_argument("--json", type=Path, help="file to write the figures to")
    return found


def measure(options: Namespace) -> None:
    from measurements.attacks import measure_attacks

    measure_attacks(options)


if __name__ == "__main__":
    run(parser(), measure, folders=("gallery", "sketches"))
