"""Environment variables of the options, and a warning about those that no option reads."""

import difflib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module

from cyclopts import App, ArgumentCollection
from cyclopts.config import Env

__all__ = ["PREFIX", "Variables"]

logger = logging.getLogger(__name__)

PREFIX = "SVDRAW_"


class Variables(Env):
    """Gives the options of one command what the environment says, unless the command line says it.

    Args:
        prefix: of the command's variables, such as ``SVDRAW_FIT_``.
        others: prefixes of every command; variables of another command are its own affair.
        short: prefixes without a command's name, with the import path of the model of the options they set.
    """

    def __init__(self, prefix: str, others: Sequence[str], short: Mapping[str, str]) -> None:
        super().__init__(prefix, command=False)
        self._others = tuple(other for other in others if other != prefix)
        self._short = {other: path for other, path in short.items() if other != prefix}

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Reads the environment."""
        super().__call__(app, commands, arguments)
        self._warn(_variable(self.prefix, argument.name) for argument in arguments if not argument.children)

    def _warn(self, own: Iterable[str]) -> None:
        given = {name for name in os.environ if name.startswith(PREFIX) and not name.startswith(self._others)}
        known = set(own)
        if given - known:
            known |= {name for prefix, path in self._short.items() for name in _variables(prefix, path)}
        for name in sorted(given - known):
            endings = sorted(each.removeprefix(PREFIX) for each in known)
            closest = difflib.get_close_matches(name.removeprefix(PREFIX), endings, n=1)
            hint = f"; did you mean {PREFIX}{closest[0]}?" if closest else "; --help of a command lists its variables"
            logger.warning("warning: no command knows the variable %s%s", name, hint)


def _variable(prefix: str, name: str) -> str:
    return prefix + name.lstrip("-").upper().replace("-", "_")


def _variables(prefix: str, path: str) -> list[str]:
    module, _, model = path.partition(":")
    return [_variable(prefix, name) for name in getattr(import_module(module), model).model_fields]
