"""A stream for the log that never waits: a reader of standard error that does not read cannot stop the service."""

import os
import queue
import threading
from collections.abc import Callable
from typing import TextIO

__all__ = ["LogStream"]

_LINES = 4000  # that may wait for the reader


class LogStream:
    """Writes to another stream's file in a thread. When too much waits there, further lines are dropped and counted.

    Args:
        stream: a stream of a file, such as standard error.
        on_drop: called for every line that is dropped.

    Raises:
        OSError: if the stream has no file.
    """

    def __init__(self, stream: TextIO, on_drop: Callable[[], None]) -> None:
        self._file = stream.fileno()
        self._on_drop = on_drop
        self._lines: queue.Queue[bytes] = queue.Queue(_LINES)
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        """Hands text over to the thread."""
        try:
            self._lines.put_nowait(text.encode(errors="backslashreplace"))
        except queue.Full:
            self._on_drop()
        return len(text)

    def flush(self) -> None:
        """Does nothing, as what is waiting is written anyway."""

    def drain(self, seconds: float) -> bool:
        """Waits until everything is written, but not longer than so many seconds; returns whether it is."""
        with self._lines.all_tasks_done:
            return self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, seconds)

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:  # past Python's own buffer, whose lock would keep the process from ending
                    line = line[os.write(self._file, line) :]
            except OSError:  # nobody will read it
                self._on_drop()
            finally:
                self._lines.task_done()
