"""API keys: they identify clients and say what each client may do.

The file of keys holds one line ``NAME SCOPE SHA256 [LAST-DAY]`` per key. Several lines may share a name, so that a key
can be replaced without interruption. Keys are long random strings, so a plain SHA-256 does not reveal them.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from pathlib import Path

from service.errors import KeysError

__all__ = ["Key", "KeyRing", "Scope", "read_keys"]

logger = logging.getLogger(__name__)

_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<scope>read|write)\s+(?P<sha256>[0-9a-f]{64})(\s+(?P<last>\S+))?")


class Scope(IntEnum):
    """What a client may do. Each scope includes the scopes below it."""

    NONE = 0
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Key:
    """An API key, of which only the hash is known.

    Attributes:
        name: name of the client that has the key.
        scope: what the key allows.
        sha256: SHA-256 of the key, in hexadecimal.
        last_day: last day on which the key is valid, in UTC; None if it does not expire.
    """

    name: str
    scope: Scope
    sha256: str
    last_day: date | None = None

    @property
    def valid(self) -> bool:
        """Whether the key has not expired."""
        return self.last_day is None or datetime.now(UTC).date() <= self.last_day


def read_keys(path: Path) -> tuple[Key, ...]:
    """Reads a file of API keys.

    Raises:
        KeysError: if the file cannot be read or a line is not valid; the message never shows the line itself.
    """
    try:
        return tuple(_parsed(path.read_text(encoding="utf-8"), path))
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} cannot be read as a file of keys: {error}") from error


def _parsed(text: str, path: Path) -> Iterator[Key]:
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        try:
            if match is None:
                raise ValueError("it is not NAME read|write SHA256 [YYYY-MM-DD]")
            last_day = date.fromisoformat(match["last"]) if match["last"] else None
        except ValueError as error:
            raise KeysError(f"{path}, line {number}: {error}") from error
        yield Key(match["name"], Scope[match["scope"].upper()], match["sha256"], last_day)


class KeyRing:
    """The API keys of a file, which is read again whenever it changes.

    Args:
        path: the file of keys; None if there are no keys.

    Raises:
        KeysError: if the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._keys: tuple[Key, ...] = ()
        self._state: tuple[int, int, int] | None = None
        if path is not None:
            self._state = self._file_state()
            self._keys = read_keys(path)

    def find(self, secret: str) -> Key | None:
        """Finds the valid key with this secret, in a time that does not depend on how much of the secret is right."""
        self._refresh()
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and key.valid:
                found = key
        return found

    def _refresh(self) -> None:
        if self._path is None or (state := self._file_state()) == self._state:
            return
        self._state = state
        try:
            self._keys = read_keys(self._path)
            logger.info("%s changed: %d keys", self._path, len(self._keys))
        except KeysError as error:
            logger.error("the new API keys cannot be used, so the previous ones stay valid: %s", error)

    def _file_state(self) -> tuple[int, int, int] | None:
        assert self._path is not None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
