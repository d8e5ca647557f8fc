"""One line for every way in which a command line can be wrong."""

import difflib
from collections.abc import Sequence

from cyclopts import Argument
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError
from pydantic import ValidationError

__all__ = ["explain", "explain_validation"]


def explain(error: CycloptsError) -> str:
    """What is wrong with the words of a command line or the variables of the environment."""
    if isinstance(error.__cause__, ValidationError):
        return explain_validation(error.__cause__, error.argument)
    example = _example(error)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name, words = error.argument.name, [word.partition("=")[0] for word in error.root_input_tokens or ()]
        if name in words:
            return f"{name} needs a value, for example: {example}"
        unknown = [word.partition("=")[0] for word in error.unused_tokens or ()]
        typed = difflib.get_close_matches(name, [word for word in unknown if word.startswith("-")], n=1)
        hint = f", {typed[0]} is no option" if typed else ""
        return f"{name} is required{hint}, for example: {example}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{error.unused_tokens[0]!r} follows no option, for example: {example}"
    error.verbose = False
    line = " ".join(str(error).split())
    if isinstance(error, UnknownOptionError) and "?" not in line:
        line = f"{line.removesuffix('.')}; --help lists the options of {' '.join(error.command_chain or ())}"
    return f"{line[:1].lower()}{line[1:].removesuffix('.')}"


def explain_validation(error: ValidationError, argument: Argument | None = None) -> str:
    """What is wrong with values; of an option by its name, or its variable where that set it."""
    return "; ".join(
        f"{where}: {message}" if where else message
        for where, message in (
            (_where(detail["loc"], argument), detail["msg"].removeprefix("Value error, "))
            for detail in error.errors(include_url=False)
        )
    )


def _where(location: Sequence[int | str], argument: Argument | None) -> str:
    for option in argument.children if argument and location else ():
        if option.keys == location[:1]:
            token = next((token for token in option.tokens if token.source == "env"), None)
            return str(token.keyword) if token else option.name
    return ".".join(str(part) for part in location)


def _example(error: CycloptsError) -> str:
    epilogue = error.app.help_epilogue if error.app else None
    return (epilogue or "").removeprefix("Example: ")
