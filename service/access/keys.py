"""API keys: they identify clients and say what each client may do.

The file of keys holds one line ``NAME SCOPE SHA256 [LAST-DAY]`` per key. Several lines may share a name, so that a key
can be replaced without interruption. Keys are long random strings, so a plain SHA-256 does not reveal them.

A file that cannot be read, or has a bad line, proves nothing about any key: a line may be missing because the key was
withdrawn. The list that was read last is therefore used only for a limited time, and afterwards no key is accepted.
"""

import hashlib
import hmac
import logging
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from service.errors import KeysError
from service.http.metrics import Metrics

__all__ = ["Key", "KeyRing", "Scope", "read_keys"]

logger = logging.getLogger(__name__)

_LINE = re.compile(
    r"(?P<name>[\w.@-]{1,64})\s+(?P<scope>metrics|read|write)\s+(?P<sha256>[0-9a-f]{64})(\s+(?P<last>\S+))?"
)
_EMPTY = hashlib.sha256(b"").hexdigest()
_READ_SECONDS = 1.0  # a file is read again after this time even if it looks the same


class Scope(IntEnum):
    """What a client may do. Each scope includes the scopes below it."""

    NONE = 0
    METRICS = 1
    READ = 2
    WRITE = 3


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
        KeysError: if the file cannot be read or a line is not valid; the message never shows any part of the line, in
            which there might be a key.
    """
    try:
        return tuple(_parsed(path.read_text(encoding="utf-8"), path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeysError(f"{path} cannot be read as a file of keys: {reason}") from error


def _parsed(text: str, path: Path) -> Iterator[Key]:
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            raise KeysError(f"{path}, line {number}: it is not NAME metrics|read|write SHA256 [YYYY-MM-DD]")
        sha256 = match["sha256"]
        if sha256 == _EMPTY:
            raise KeysError(f"{path}, line {number}: it is the SHA-256 of nothing; make it from the key itself")
        if lines.setdefault(sha256, number) != number:
            raise KeysError(f"{path}, line {number}: line {lines[sha256]} has the same key; remove one of them")
        yield Key(match["name"], Scope[match["scope"].upper()], sha256, _last_day(match["last"], path, number))


def _last_day(text: str | None, path: Path, number: int) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:  # its message shows the text
        raise KeysError(f"{path}, line {number}: the last day is not a date such as 2027-12-31") from None


class KeyRing:
    """The API keys of a file, which is read again whenever it changes.

    Args:
        path: the file of keys; None if there are no keys.
        grace: seconds for which the list that was read last is used while the file cannot be read.
        metrics: metrics that show the age of the list and count failed reads.
        clock: returns the time in seconds.

    Raises:
        KeysError: if the file cannot be used.
    """

    def __init__(
        self, path: Path | None, grace: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._grace = grace
        self._failures, self._age = metrics.keys_failed_reads, metrics.keys_age
        self._clock = clock
        self._lock = threading.Lock()  # requests and scrapes come from different threads
        self._keys: tuple[Key, ...] = ()
        self._problem: str | None = None
        self._state = None if path is None else _file_state(path)
        self._counts_links = self._state is not None and self._state.links > 0  # some file systems do not
        self._read_at = self._good_at = clock()
        if path is not None:
            self._keys = read_keys(path)
            _warn_of_permissions(path, secret=bool(self._keys))
            metrics.keys_age.set_function(
                self.age
            )  # without effect where several processes keep their metrics in files

    def find(self, secret: str) -> Key | None:
        """Finds the valid key with this secret, in a time that does not depend on how much of the secret is right.

        While the list is not trusted, no key is valid.
        """
        self.age()
        if not self.trusted:
            return None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest) and key.valid:
                found = key
        return found

    @property
    def trusted(self) -> bool:
        """Whether the file is in order, or was so within the grace period."""
        return self._problem is None or self._clock() - self._good_at < self._grace

    def age(self) -> float:
        """Reads the file if it may have changed, and returns the seconds since it was last read without a fault."""
        with self._lock:
            if self._path is not None:
                self._refresh(self._path)
                self._age.set(self._clock() - self._good_at)
            return self._clock() - self._good_at

    def _refresh(self, path: Path) -> None:
        now, state = self._clock(), _file_state(path)
        if state == self._state and now - self._read_at < _READ_SECONDS:
            return
        self._state, self._read_at = state, now
        try:
            keys = read_keys(path)
            if self._counts_links and state and not state.links:
                raise KeysError(
                    f"{path} was replaced behind its mount; write to the same file, or restart the container"
                )
        except KeysError as error:
            self._failures.inc()
            if str(error) != self._problem:
                logger.error("no new API keys; the previous ones stay valid for %g seconds: %s", self._grace, error)
            self._problem = str(error)
            return
        if keys != self._keys or self._problem:
            logger.info("%s was read: %d keys", path, len(keys))
        self._keys, self._good_at, self._problem = keys, now, None


class _FileState(NamedTuple):
    """What differs between two files, or two contents of one, that may have the same name, size and time."""

    links: int  # none if a container goes on with a file that has been replaced outside
    device: int
    inode: int
    size: int
    modified: int
    changed: int


def _file_state(path: Path) -> _FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return _FileState(found.st_nlink, found.st_dev, found.st_ino, found.st_size, *times)


def _warn_of_permissions(path: Path, *, secret: bool) -> None:
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        logger.warning("everyone on this machine can add keys to %s; chmod o-rw prevents it", path)
    elif secret and mode & stat.S_IROTH:
        logger.warning("everyone on this machine can read the hashes of the keys in %s; chmod o-r prevents it", path)
