"""The command line of a benchmark. It shows its help without any package, and reports an error in one line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

__all__ = ["BenchmarkError", "Parser", "positive", "run", "share"]

INSTALL = 'pip install -c constraints.txt -e ".[dev,bench]"'


class BenchmarkError(Exception):
    """The benchmark cannot measure what it was given; the text says why."""


class Parser(argparse.ArgumentParser):
    """A parser that keeps the layout of its description and reports errors in one line."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Prints the error and ends the process with status 2."""
        self.exit(2, f"error: {message}; --help lists the options\n")


def positive(text: str) -> int:
    """The type of an option that takes a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """The type of an option that takes a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def run(parser: Parser, measure: Callable[[argparse.Namespace], None], folders: tuple[str, ...] = ()) -> None:
    """Parses the command line and runs the measurement.

    Args:
        parser: parser of the command line.
        measure: runs the measurement; it imports the packages that it needs.
        folders: options that name folders; these must exist if they are given.
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
