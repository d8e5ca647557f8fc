"""What has to hold after every request, whatever it was: the rules of a service that strangers cannot harm."""

import json
import re
from collections import deque
from pathlib import Path
from typing import NamedTuple

from service.encoding.workers import MORE_WORKERS
from tests.hostile.exchange import HOST, Answer, Request, exchange, written
from training.base.machine import processors

MAY_FAIL = {503, 507}  # statuses of a service that says it cannot at the moment
OPENAI = re.compile(rb"\w+ /v1/embeddings[/? ]")
REMEMBERED = 40  # requests before a failure that are kept with it
MORE_MEMORY = 1.3
# What comes and goes on a busy machine: a decoder for each core beside those that were needed before, with its files,
# and workers, which begin when they are needed and stay.
FILES = 3 + 8 * processors()
THREADS = 3 + 2 * processors() + MORE_WORKERS
PATIENCE = 30.0  # seconds in which every request must have ended
GLANCE = 0.4  # seconds after which a client leaves that sent no whole request, and waits for nothing


class Misbehaviour(AssertionError):  # noqa: N818
    """The service broke a rule; the text names it and the file with the bytes that made it do so."""


class Footprint(NamedTuple):
    """What a process and its descendants hold."""

    megabytes: float
    files: int
    threads: int

    def exceeds(self, before: "Footprint") -> bool:
        """Whether this is more than it was before, by more than chance."""
        return (
            self.megabytes > MORE_MEMORY * before.megabytes
            or self.files > before.files + FILES
            or self.threads > before.threads + THREADS
        )


def footprint(pid: int) -> Footprint:
    """Measures a process and its descendants."""
    total = Footprint(0, 0, 0)
    for member in [pid, *_descendants(pid)]:
        folder = Path(f"/proc/{member}")
        try:
            facts = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            files = len(list((folder / "fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            continue
        memory = int(facts.get("RssAnon", "0 kB").split()[0]) / 1024
        total = Footprint(total.megabytes + memory, total.files + files, total.threads + int(facts["Threads"]))
    return total


def _descendants(pid: int) -> list[int]:
    try:
        files = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):  # a thread or the process has just ended
        return []
    children = [int(word) for text in files for word in text.split()]
    return children + [each for child in children for each in _descendants(child)]


class Watch:
    """Sends requests to a service and checks every rule after each.

    Args:
        port: of the service.
        pid: of its process.
        log: file that it logs to.
        known: a search whose answer must not change.
        failures: folder for the bytes of requests that broke a rule.

    Attributes:
        patience: seconds in which a request must have ended.
        tried: number of requests sent.
    """

    def __init__(self, port: int, pid: int, log: Path, known: Request, failures: Path) -> None:
        self._port, self._pid, self._log, self._known = port, pid, log, known
        self._failures, self.patience = failures, PATIENCE
        self._recent: deque[Request] = deque(maxlen=REMEMBERED)
        self._has_failed = False
        self._position = log.stat().st_size
        self.tried = 0
        self._before = self._ranking()

    def footprint(self) -> Footprint:
        """Measures the service after a search, which has it end threads that were idle for long."""
        self._ranking()
        return footprint(self._pid)

    def attempt(self, request: Request) -> Answer | None:
        """Sends a request, and checks the answer and the state of the service.

        Raises:
            Misbehaviour: if a rule is broken.
        """
        self._recent.append(request)
        self.tried += 1
        try:
            answer = self._answer(request)
            self._check_answer(request, answer)
            self._check_service()
        except TimeoutError as error:
            raise self._failure(request, f"no end after {self.patience:g} s") from error
        except ConnectionError as error:
            raise self._failure(request, f"the service does not listen any more: {error}") from error
        except AssertionError as error:
            raise self._failure(request, str(error)) from error
        return answer

    def _answer(self, request: Request) -> Answer | None:
        if request.is_whole:
            return exchange(self._port, request, self.patience)
        try:
            return exchange(self._port, request, min(GLANCE, self.patience))
        except TimeoutError:
            return None

    def _check_answer(self, request: Request, answer: Answer | None) -> None:
        if answer is None:
            assert not request.is_whole, "a whole request got no answer"
            return
        status = answer.status
        assert status < 500 or status in MAY_FAIL, f"status {status}: {answer.body[:1000]!r}"
        assert status != 503 or answer.headers.get("retry-after"), "503 without Retry-After"
        if status >= 400 and not request.content.startswith(b"HEAD"):
            self._check_problem(answer, is_openai=bool(OPENAI.match(request.content)))

    def _check_problem(self, answer: Answer, *, is_openai: bool) -> None:
        told = f"status {answer.status} is no problem document: {answer.headers} {answer.body[:1000]!r}"
        try:
            problem = json.loads(answer.body)
        except ValueError as error:
            raise AssertionError(told) from error
        if is_openai and "error" in problem:
            assert problem["error"]["message"], told
            return
        assert answer.headers.get("content-type") == "application/problem+json", told
        assert problem["status"] == answer.status, told
        assert problem["title"], told
        assert problem["detail"], told

    def _check_service(self) -> None:
        assert Path(f"/proc/{self._pid}").exists(), "the process has ended"
        ready = exchange(self._port, written("GET", "/readyz"), self.patience)
        assert ready is not None, "the service is not ready: no answer"
        assert ready.status == 200, f"the service is not ready: {ready.body!r}"
        ranking = self._ranking()
        assert ranking == self._before, f"the known search found {self._before}, and now {ranking}"
        with self._log.open("rb") as file:
            file.seek(self._position)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._position += len(whole)
        assert b"Traceback (most recent call last)" not in whole, f"a traceback in the log: {whole.decode()[-5000:]}"
        for line in whole.splitlines():
            assert line.startswith(b'{"time": '), f"a line in the log that is not JSON: {line.decode()[:1000]}"

    def _ranking(self) -> list[tuple[int, float]]:
        """The answer to the known search, as far as it must stay the same."""
        answer = exchange(self._port, self._known, self.patience)
        assert answer is not None, "the known search got no answer"
        assert answer.status == 200, f"the known search got status {answer.status}: {answer.body[:1000]!r}"
        return [(result["id"], round(result["score"], 4)) for result in json.loads(answer.body)["results"]]

    def _failure(self, request: Request, reason: str) -> Misbehaviour:
        """Keeps the bytes of the request, and at the first failure also those before, which may be the cause."""
        self._failures.mkdir(parents=True, exist_ok=True)
        if not self._has_failed:
            self._has_failed = True
            for number, each in enumerate(self._recent):
                (self._failures / f"before-{len(self._recent) - 1 - number:02}.http").write_bytes(each.content)
        file = self._failures / "request.http"
        file.write_bytes(request.content)
        return Misbehaviour(f"{reason}\nsend it again: nc {HOST} PORT < {file}")
