"""Command lines: options and environment in, exit status out, one clear line for every user error.

A program is a table of commands. Each is named by an import path and imported when it is called, so that ``--help``
is quick and a command whose packages are not installed takes nothing from the others.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple, TypeVar

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from rich.console import Console, ConsoleOptions

from training.base.errors import SvdrawError
from training.base.usage_errors import explain, explain_validation
from training.base.variables import PREFIX, Variables

__all__ = ["Command", "Many", "Options", "Program", "Settings", "run_command"]

_PACKAGES = frozenset({"service", "index", "training"})
_T = TypeVar("_T")


def _split(values: Any) -> Any:
    if not isinstance(values, list):
        return values
    return [word.strip() for value in values for word in (value.split(",") if isinstance(value, str) else [value])]


Options = Annotated[_T, Parameter(name="*")]
"""A model whose fields, one of them required, are options of a command: ``def build(*, settings: Options[Build])``."""

Many = Annotated[
    list[_T],
    BeforeValidator(_split),
    Parameter(negative_iterable="", show_default=False, env_var_split=lambda hint, value, delimiter=None: [value]),
]
"""Several values of an option, joined by commas or given one by one: ``--ids 17,18`` or ``--ids 17 --ids 18``."""


class Settings(BaseModel):
    """Options of a command; each field is one, with its description for ``--help``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Command(NamedTuple):
    """A command, described without importing it.

    Attributes:
        name: the words that call it, such as ``index build``.
        target: import path ``module:function``; the function takes a model of options as ``settings``.
        summary: one line of ``--help``.
        example: a call that works, shown in ``--help`` and where a required option is missing.
        extra: what ``pip install "svdraw[extra]"`` must bring.
        prefix: of its environment variables; from the name when omitted.
        options: import path of the model of options; needed with a prefix of its own.
    """

    name: str
    target: str
    summary: str
    example: str
    extra: str
    prefix: str = ""
    options: str = ""


def _prefix(command: Command) -> str:
    return command.prefix or PREFIX + command.name.upper().replace(" ", "_").replace("-", "_") + "_"


class Program:
    """A tree of commands.

    Args:
        name: how it is called, such as ``svdraw`` or ``python -m index``.
        summary: first line of ``--help``.
        commands: in the order of ``--help``.
        groups: summary of each first word that several commands share.
        inside: first word of the commands that the name implies already.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        commands: Sequence[Command],
        groups: Mapping[str, str] | None = None,
        inside: str = "",
    ) -> None:
        self._inside = inside
        self.commands = {command.name.removeprefix(f"{inside} "): command for command in commands}
        self.app = App(
            name=name,
            help=summary,
            version=lambda: version("svdraw"),
            help_format="plaintext",
            help_formatter=_Listing(self.commands),
            default_parameter=Parameter(negative_iterable=""),
            suppress_keyboard_interrupt=False,
        )
        short = {command.prefix: command.options for command in commands if command.prefix}
        long = [_prefix(command) for command in commands if not command.prefix]
        for position, (words, command) in enumerate(self.commands.items()):
            *group, name = words.split()
            self._parent(group, groups or {}, position).command(
                command.target,
                name=name,
                help=command.summary,
                help_epilogue=f"Example: {command.example}",
                config=(Variables(_prefix(command), others=long, short=short),),
                sort_key=position,
            )
        self.app.register_install_completion_command(help="Install completion of commands and options for your shell.")

    def _parent(self, group: Sequence[str], summaries: Mapping[str, str], position: int) -> App:
        if not group:
            return self.app
        if group[0] not in self.app:
            self.app.command(App(name=group[0], help=summaries[group[0]], help_format="plaintext", sort_key=position))
        return self.app[group[0]]

    def command(self, arguments: Sequence[str]) -> Command | None:
        """The command that a command line calls, None if it is none of them."""
        return next(
            (c for words, c in self.commands.items() if list(arguments[: len(words.split())]) == words.split()), None
        )


def run_command(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and the environment, runs the command and returns its exit status.

    Args:
        program: whose commands they are.
        arguments: command line without the program name; ``sys.argv[1:]`` when omitted.

    Returns:
        0 on success, 1 for an error of the command's, 2 for wrong usage, 130 when interrupted.
    """
    log_to_stderr()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container's stop is an interrupt
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        program.app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(explain(error))
        return 2
    except ValidationError as error:
        _complain(explain_validation(error))
        return 2
    except ImportError as error:
        _complain(_missing_package(error, program, words))
        return 1
    except SvdrawError as error:
        _complain(str(error))
        return 1
    except BrokenPipeError:  # the reader of a pipe left, as `| head` does; nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted; run the same command again to go on")
        return 130
    return 0


def log_to_stderr() -> None:
    """Has this process write what it logs to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at length which build it chose


class _Listing(DefaultFormatter):
    """Help that lists the commands of a group in place of the group."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        super().__init__()
        self._commands = commands

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        entries = [each for entry in panel.entries for each in self._expand(entry)]
        super().__call__(console, options, panel.copy(entries=entries))

    def _expand(self, entry: HelpEntry) -> list[HelpEntry]:
        group = f"{entry.names[0]} " if entry.names else "-"
        members = {words: command for words, command in self._commands.items() if words.startswith(group)}
        below = [HelpEntry(positive_names=(words,), description=each.summary) for words, each in members.items()]
        return below or [entry]


def _missing_package(error: ImportError, program: Program, words: Sequence[str]) -> str:
    """One line about a package that is not installed; anything else that an import raises is raised again."""
    cause: BaseException | None = error
    while isinstance(cause, ImportError) and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__
    name = cause.name.partition(".")[0] if isinstance(cause, ModuleNotFoundError) and cause.name else ""
    if not name or name in _PACKAGES:
        raise error
    command = program.command(words)
    subject, extra = (f"svdraw {command.name}", command.extra) if command else ("this", "all")
    return f'{subject} needs more packages ({name} is missing): pip install "svdraw[{extra}]"'


def _complain(line: str) -> None:
    sys.stderr.write(f"error: {line}\n")
