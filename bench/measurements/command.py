"""The command line of a benchmark: it needs nothing but Python to show its help, and says what is wrong in one line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

__all__ = ["BenchmarkError", "Parser", "positive", "run", "share"]

INSTALL = 'pip install -c constraints.txt -e ".[dev,bench]"'


class BenchmarkError(Exception):
    """What a benchmark was given cannot be measured; its text says why."""


class Parser(argparse.ArgumentParser):
    """A parser whose description is laid out as it stands, and whose errors are one line."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        self.exit(2, f"error: {message}; --help shows what there is\n")


def positive(text: str) -> int:
    """A whole number over 0, as the type of an option."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1, as the type of an option."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def run(parser: Parser, measure: Callable[[argparse.Namespace], None], folders: tuple[str, ...] = ()) -> None:
    """Parses the command line and measures.

    Args:
        parser: of the command line.
        measure: imports what it needs itself.
        folders: options that name folders, which must exist if they are given.
    """
    options = parser.parse_args()
    for name in folders:
        folder: Path | None = getattr(options, name)
        if folder is not None and not folder.is_dir():
            parser.error(f"--{name} {folder}: there is no such folder")
    try:
        _measure(measure, options)
    except ModuleNotFoundError as error:
        sys.exit(f"error: the Python package {error.name} is missing; install what benchmarks need: {INSTALL}")
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


def _measure(measure: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    from training.base.errors import SvdrawError

    try:
        measure(options)
    except SvdrawError as error:
        raise BenchmarkError(str(error)) from error
