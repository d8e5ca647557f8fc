"""Single images from many threads: each encodes its own, or those that come at the same time share one batch."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MicroBatcher", "one_by_one"]

Embedding = NDArray[np.float32]


@contextmanager
def one_by_one(encode: Callable[[Tensor], Embedding], max_batch: int) -> Iterator[Callable[[Tensor], Embedding]]:
    """Makes an encoder of batches one of single images, which many threads may call until the block ends.

    Args:
        encode: maps a batch ``(n, ...)`` to vectors ``(n, dim)``.
        max_batch: largest number of images that are encoded together; 1 lets each thread encode its own.
    """
    if max_batch == 1:
        yield lambda image: encode(image[None])[0]
        return
    batcher = MicroBatcher(lambda images: encode(torch.stack(list(images))), max_batch)
    try:
        yield batcher.embed
    finally:
        batcher.close()


class MicroBatcher:
    """A thread that encodes all waiting inputs as one batch, up to a limit, while the next inputs gather.

    Args:
        encode: maps a sequence of inputs ``(n, ...)`` to embeddings ``(n, dim)``.
        max_batch: largest number of inputs in a batch.
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
        """Waits for the embedding ``(dim,)`` of one input, and raises any error of its batch.

        Raises:
            RuntimeError: if the batcher is closed.
        """
        future: Future[Embedding] = Future()
        with self._closing:  # an input queued after the end marker would wait forever
            if self._closed:
                raise RuntimeError("the encoder is closed")
            self._queue.put((image, future))
        return future.result()

    def close(self) -> None:
        """Ends the thread after it has encoded all waiting inputs."""
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
        except Exception as error:  # every waiting worker must get the error, whatever it is
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), embedding in embeddings:
            future.set_result(embedding)
