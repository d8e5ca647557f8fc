"""One way to run a command: settings class in, exit status out, one clear line for every user error."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from training.base.errors import SvdrawError

__all__ = ["ENVIRONMENT_PREFIX", "command_config", "run_command"]

ENVIRONMENT_PREFIX = "SVDRAW_"


def command_config(program: str, *, env_prefix: str = ENVIRONMENT_PREFIX) -> SettingsConfigDict:
    """Settings configuration shared by every command: same flags, same environment prefix."""
    return SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=env_prefix,
        env_nested_delimiter="__",
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False):
        where = " ".join(str(part).replace("_", "-") for part in detail["loc"])
        lines.append(f"{where}: {detail['msg'].removeprefix('Value error, ')}" if where else detail["msg"])
    return lines


def run_command(command: type[BaseSettings], arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and the environment, runs the command and returns its exit status.

    Args:
        command: settings class whose ``cli_cmd`` does the work.
        arguments: command line without the program name; ``sys.argv[1:]`` when omitted.

    Returns:
        0 on success, 1 for an error of the command's, 2 for wrong usage, 130 when interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells at length which build it chose
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container's stop is an interrupt
    try:
        CliApp.run(command, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        for line in _lines(error):
            _complain(line)
        return 2
    except SettingsError as error:
        _complain(str(error).splitlines()[0])
        return 2
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


def _complain(line: str) -> None:
    sys.stderr.write(f"error: {line}\n")
