"""All shards of a collection, wherever they are: asked together, and those that do not answer in time left out."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from service.errors import RequestProblem
from service.shards.shard import Shard, ShardFacts
from training.base.errors import SvdrawError

__all__ = [
    "Caller",
    "Fleet",
    "LocalCaller",
    "Outcome",
    "Pending",
    "ShardAway",
    "check_answered",
    "open_local",
    "outcome_of",
]

logger = logging.getLogger(__name__)

_RETRY_AFTER = {"Retry-After": "2"}


class ShardAway(Exception):  # noqa: N818 - says what is the matter
    """A shard does not answer, or not in time."""


class Outcome(NamedTuple):
    """What a call has returned, or the error that it has raised in a form that every error survives being sent in."""

    value: Any = None
    error: tuple[type[SvdrawError], tuple[Any, ...], dict[str, Any]] | None = None

    def result(self) -> Any:
        """The value.

        Raises:
            SvdrawError: if there is none.
        """
        if self.error is None:
            return self.value
        kind, args, state = self.error
        error = kind.__new__(kind)
        error.args = args
        error.__dict__.update(state)
        raise error


def outcome_of(shard: Shard, method: str, *args: Any, **options: Any) -> Outcome:
    """Calls a method of a shard."""
    try:
        return Outcome(getattr(shard, method)(*args, **options))
    except SvdrawError as error:
        return Outcome(error=(type(error), error.args, vars(error).copy()))


class Pending(Protocol):
    """A call that was sent to a shard."""

    def outcome(self, seconds: float) -> Outcome:
        """Waits for the outcome, so many seconds at most.

        Raises:
            ShardAway: if there is none.
        """


class Caller(Protocol):
    """Sends calls to a shard."""

    def call(self, method: str, *args: Any, **options: Any) -> Pending:
        """Sends a call of a method of ``Shard``, and does not wait for it.

        Raises:
            ShardAway: if it cannot be sent.
        """

    def close(self) -> None:
        """Ends what was opened to send calls."""


class LocalCaller:
    """Calls a shard in this process, in threads of its own."""

    def __init__(self, shard: Shard, threads: int = 8) -> None:
        self._shard = shard
        self._threads = ThreadPoolExecutor(threads)

    def call(self, method: str, *args: Any, **options: Any) -> "_LocalPending":
        """See ``Caller``."""
        return _LocalPending(self._threads.submit(outcome_of, self._shard, method, *args, **options))

    def close(self) -> None:
        """See ``Caller``."""
        self._threads.shutdown()
        self._shard.close()


class _LocalPending:
    def __init__(self, future: Future[Outcome]) -> None:
        self._future = future

    def outcome(self, seconds: float) -> Outcome:
        try:
            return self._future.result(seconds)
        except TimeoutError as error:
            self._future.cancel()
            raise ShardAway(f"no answer in {seconds:.1f} s") from error


class Fleet:
    """The shards. One object may be used from many threads.

    A shard that does not answer a search in time is left out of the searches after it, which would wait for it too,
    until it answers ``look``.

    Args:
        callers: by number of the shard.
        seconds: in which a shard must answer.

    Attributes:
        facts: what the shards said of themselves when they were asked last, by number.
    """

    def __init__(self, callers: Sequence[Caller], seconds: float) -> None:
        self._callers = callers
        self._seconds = seconds
        self._lock = threading.Lock()
        self._away = set[int]()
        self.facts = dict[int, ShardFacts]()

    def __len__(self) -> int:
        return len(self._callers)

    def close(self) -> None:
        """Ends the connections to all shards."""
        for caller in self._callers:
            caller.close()

    @property
    def away(self) -> list[int]:
        """Numbers of the shards that do not answer."""
        with self._lock:
            return sorted(self._away)

    def look(self, seconds: float | None = None) -> None:
        """Asks every shard what it holds. Searches leave those out that do not answer.

        Args:
            seconds: in which they must answer; those of searches when omitted.

        Raises:
            RequestProblem: 503 if none answers.
        """
        answers = self._gather(dict.fromkeys(range(len(self)), ("facts",)), {}, seconds or self._seconds)
        with self._lock:
            back = self._away & answers.keys()
            self._away = set(range(len(self))) - answers.keys()
            self.facts |= answers
        if back:
            logger.info("shards %s answer again", sorted(back))
        check_answered(answers)

    def tend(self, seconds: float) -> None:
        """Has the shards switch to the generations that were published last; see ``Shard.tend``.

        Args:
            seconds: to wait for them.

        Raises:
            GalleryError: if one cannot.
        """
        self._gather(dict.fromkeys(range(len(self)), ("tend",)), {}, seconds)

    def ask_all(self, calls: Mapping[int, tuple[Any, ...]], **options: Any) -> dict[int, Any]:
        """Calls a method of several shards, and returns what those that answer have returned, by number.

        Args:
            calls: by number of the shard, the name of the method and its positional arguments.
            options: keyword arguments, the same for all.

        Raises:
            SvdrawError: if a shard raises it.
        """
        away = set(self.away)
        there = {shard: call for shard, call in calls.items() if shard not in away}
        answers = self._gather(there, options, self._seconds)
        if lost := there.keys() - answers.keys():
            logger.warning("shards %s do not answer", sorted(lost))
            with self._lock:
                self._away |= lost
        return answers

    def ask(self, shard: int, method: str, *args: Any, seconds: float | None = None) -> Any:
        """Calls a method of one shard, which is not left out though it did not answer before.

        Args:
            shard: its number.
            method: name of the method.
            args: its arguments.
            seconds: in which it must answer; those of searches when omitted.

        Raises:
            RequestProblem: 503 if it does not answer.
            SvdrawError: if it raises it.
        """
        try:
            return self._callers[shard].call(method, *args).outcome(seconds or self._seconds).result()
        except ShardAway as error:
            raise RequestProblem(
                503, f"shard {shard} does not answer: {error}; try again soon", _RETRY_AFTER
            ) from error

    def _gather(
        self, calls: Mapping[int, tuple[Any, ...]], options: Mapping[str, Any], seconds: float
    ) -> dict[int, Any]:
        end = time.monotonic() + seconds
        sent, answers = dict[int, Pending](), dict[int, Any]()
        for shard, call in calls.items():
            try:
                sent[shard] = self._callers[shard].call(*call, **options)
            except ShardAway as error:
                logger.debug("shard %d: %s", shard, error)
        for shard, pending in sent.items():
            try:
                answers[shard] = pending.outcome(max(0.0, end - time.monotonic())).result()
            except ShardAway as error:
                logger.debug("shard %d: %s", shard, error)
        return answers


def check_answered(answers: Mapping[int, Any]) -> None:
    """Refuses a request that no shard has answered.

    Raises:
        RequestProblem: 503.
    """
    if not answers:
        raise RequestProblem(503, "no shard of the collection answers; try again soon", _RETRY_AFTER)


def open_local(folders: Sequence[Path], device: str, live_changes: int) -> list[Caller]:
    """Opens shards in this process.

    Raises:
        GalleryError: if one cannot be searched.
    """
    return [LocalCaller(Shard(folder, device, live_changes)) for folder in folders]
