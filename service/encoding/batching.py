"""Images that several workers want encoded at the same time share a batch."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MicroBatcher"]

Embedding = NDArray[np.float32]


class MicroBatcher:
    """One thread that encodes whatever is waiting, up to a limit, while the next images gather.

    Args:
        encode: ``(n, ...)`` sequence of inputs to ``(n, dim)`` embeddings.
        max_batch: most inputs at once.
    """

    def __init__(self, encode: Callable[[Sequence[Tensor]], Embedding], max_batch: int) -> None:
        self._encode = encode
        self._max_batch = max_batch
        self._queue: queue.SimpleQueue[tuple[Tensor, Future[Embedding]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._closed = False
        self._closing = threading.Lock()
        self._thread.start()

    def embed(self, image: Tensor) -> Embedding:
        """Waits for the embedding of one input, ``(dim,)``; raises whatever its batch failed with.

        Raises:
            RuntimeError: if it is closed.
        """
        future: Future[Embedding] = Future()
        with self._closing:  # nothing may follow what ends the thread: it would wait for good
            if self._closed:
                raise RuntimeError("the encoder is closed")
            self._queue.put((image, future))
        return future.result()

    def close(self) -> None:
        """Ends the thread once what is waiting is encoded."""
        with self._closing:
            if not self._closed:
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
        try:
            embeddings = list(zip(batch, self._encode([image for image, _ in batch]), strict=True))
        except Exception as error:  # every waiting worker must hear of it, whatever it is
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), embedding in embeddings:
            future.set_result(embedding)
