"""Concurrent queries share the encoder's batches."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.errors import RequestProblem

__all__ = ["MicroBatcher"]

Embedding = NDArray[np.float32]


class MicroBatcher:
    """One thread that encodes whatever is waiting, up to a limit, while the next queries gather.

    Args:
        encode: ``(n, ...)`` sequence of inputs to ``(n, dim)`` embeddings.
        max_batch: most inputs at once.
        max_waiting: most inputs in the queue.
        on_batch: told the size of every batch and the seconds it took.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Tensor]], Embedding],
        *,
        max_batch: int,
        max_waiting: int,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._encode = encode
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._closed = False
        self._queue: queue.Queue[tuple[Tensor, Future[Embedding]] | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of inputs in the queue."""
        return self._queue.qsize()

    def submit(self, image: Tensor) -> Future[Embedding]:
        """Queues one input; the future gives its embedding, ``(dim,)``.

        Raises:
            RequestProblem: 503 if the queue is full, or closed.
        """
        future: Future[Embedding] = Future()
        if self._closed:
            raise RequestProblem(503, "this model is not served any more; try again", {"Retry-After": "1"})
        try:
            self._queue.put_nowait((image, future))
        except queue.Full as error:
            raise RequestProblem(503, "too many queries are waiting; try again soon", {"Retry-After": "1"}) from error
        return future

    def close(self) -> None:
        """Encodes what is waiting, then ends the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            while len(batch) < self._max_batch:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._finish(batch)
                    return
                batch.append(following)
            self._finish(batch)

    def _finish(self, batch: list[tuple[Tensor, Future[Embedding]]]) -> None:
        started = time.perf_counter()
        live = [(image, future) for image, future in batch if future.set_running_or_notify_cancel()]
        if not live:
            return
        try:
            embeddings = self._encode([image for image, _ in live])
        except Exception as error:  # every waiting query must hear of it, whatever it is
            for _, future in live:
                future.set_exception(error)
            return
        for (_, future), embedding in zip(live, embeddings, strict=True):
            future.set_result(embedding)
        self._on_batch(len(live), time.perf_counter() - started)
