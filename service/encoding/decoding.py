"""Decoding within bounds of memory and time: few images at the same time, in processes that can be killed.

- **Places.** As many images as there are cores are decoded, encoded or searched by at the same time.
- **Images that take long.** A decoder that takes longer than 0.3 seconds gives its place to others and goes on at low
  priority, at most as many as there are cores. So a few costly images do not keep others waiting.
- **Large images.** Those of more than 16 million pixels that must be held whole are decoded one at a time.
- **Limits.** A decoder that takes too much time or memory, or crashes, ends alone: its image is refused.
"""

import logging
import signal
import threading
import time
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import NamedTuple, Self

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from service.encoding.messages import Header
from service.encoding.pictures import Crop, Task
from service.encoding.places import Place, Places
from service.encoding.processes import DecoderProcess, DecoderProcesses, prepare
from service.errors import RequestProblem
from service.http.metrics import Metrics
from service.http.stopwatch import Stopwatch
from service.settings import ServiceSettings
from training.base.errors import ImageError, ImageTooCostly, ImageTooLarge
from training.model.images import ImageFacts
from training.model.preprocessing import Preprocessing

__all__ = ["Crop", "Decoder"]

logger = logging.getLogger(__name__)

_QUICK = 0.3  # seconds after which an image takes long
_SLICE = 0.1  # seconds between two looks whether a slow decoder can give its place to others
_PATIENCE = 60.0  # seconds that a large image waits for its turn
_CLOCK = 6  # times its processor time that an image may take by the clock, as others use the machine too
_SMALL = 16_000_000  # pixels
_BYTES_A_PIXEL = 28  # at most: a WebP with transparency
_BYTES = 96 << 20  # for anything but pixels
_SKETCH_SHARE = 0.3  # of the time for a photo that a sketch may take
_ENDS: dict[int, str] = {signal.SIGPROF: "time", signal.SIGKILL: "killed"}  # by signal; others are crashes
_ERRORS = {"image": ImageError, "pixels": ImageTooLarge, "cost": ImageTooCostly}  # by what a decoder calls them


class _Ended(Exception):  # noqa: N818 - not an error of its own
    """A decoder has ended before it answered."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Arranged(NamedTuple):
    """An image as an encoder sees it, ``(size, size)`` or ``(size, size, 3)`` uint8, and whether it shows nothing."""

    pixels: NDArray[np.uint8]
    is_blank: bool


class Decoder:
    """Decodes all images of the service: sketches, photos and thumbnails. It may be used from many threads.

    Args:
        max_at_once: largest number of images that are being decoded or encoded at the same time, beside slow ones.
        max_pixels: largest width times height of a photo.
        sketch_pixels: largest width times height of a sketch, as for a photo if omitted.
        seconds: processor time in which a photo must be decoded.
        metrics: metrics of decoders.
    """

    def __init__(
        self,
        max_at_once: int,
        max_pixels: int,
        *,
        sketch_pixels: int | None = None,
        seconds: float = 10.0,
        metrics: Metrics | None = None,
    ) -> None:
        self.max_at_once = max_at_once
        self._max_pixels = max_pixels
        self._sketch_pixels = max_pixels if sketch_pixels is None else sketch_pixels
        self._seconds = seconds
        self._metrics = metrics or Metrics()
        self._processes = DecoderProcesses(self._metrics)
        self._places = Places(max_at_once)
        self._slow = threading.Semaphore(max_at_once)
        self._large = threading.Semaphore(1)
        self._closed = False

    @classmethod
    def for_service(cls, settings: ServiceSettings, cores: int, metrics: Metrics) -> Self:
        """A decoder with the limits of the service's settings, which begins to load while this returns."""
        prepare()
        return cls(
            cores,
            settings.max_pixels,
            sketch_pixels=min(settings.max_pixels, settings.max_sketch_pixels),
            seconds=settings.decode_seconds,
            metrics=metrics,
        )

    def place(self, stopwatch: Stopwatch | None = None) -> AbstractContextManager[Place]:
        """Waits for a share of the machine; see ``Places.hold``."""
        return self._places.hold(stopwatch)

    def arranged(
        self, content: bytes, preprocessing: Preprocessing, place: Place, *, sketch: bool, crop: Crop | None = None
    ) -> Arranged:
        """Decodes an image and arranges it for an encoder.

        Args:
            content: bytes of the file.
            preprocessing: the encoder's.
            place: the share of the machine that is used; it may have been left when this returns.
            sketch: whether it is a sketch, which may be an SVG drawing, and has limits of its own.
            crop: part of the image to keep; all of it when omitted.

        Raises:
            ImageError: if the bytes are not a usable image; ``ImageTooLarge`` if it has too many pixels or takes too
                much memory, ``ImageTooCostly`` if it takes too much time.
            RequestProblem: 422 if the part does not lie within the image, 503 if the machine is too busy.
        """
        task = Task(
            result="arranged",
            max_pixels=self._sketch_pixels if sketch else self._max_pixels,
            drawing=sketch,
            crop=crop,
            preprocessing=_as_json(preprocessing),
            seconds=self._seconds * (_SKETCH_SHARE if sketch else 1),
        )
        answer, pixels = self._perform(task, content, place)
        side = preprocessing.size
        shape = (side, side) if answer["gray"] else (side, side, 3)
        return Arranged(np.frombuffer(pixels, np.uint8).reshape(shape), answer["blank"])

    def thumbnail(self, content: bytes, size: int, known_pixels: int = 0) -> bytes:
        """Makes a WebP file of a photo, scaled down to fit a square of ``size`` pixels.

        Args:
            content: bytes of the file.
            size: side of the square, in pixels.
            known_pixels: width times height that an image like this had before; it may have as many again, whatever the
                limit.

        Raises:
            ImageError: see ``arranged``.
            RequestProblem: 503 if the machine is too busy.
        """
        limit = max(self._max_pixels, known_pixels)
        task = Task(result="thumbnail", max_pixels=limit, size=size, seconds=self._seconds)
        with self.place() as place:
            return self._perform(task, content, place)[1]

    def describe(self, content: bytes) -> ImageFacts:
        """What a photo is.

        Raises:
            ImageError: if it is no usable image; ImageTooLarge if it has too many pixels.
        """
        task = Task(result="facts", max_pixels=self._max_pixels, seconds=self._seconds)
        with self.place() as place:
            return ImageFacts(*self._perform(task, content, place)[0]["facts"])

    async def check(self) -> None:
        """Makes sure that there is a process that decodes images, or that one can be started.

        Raises:
            OSError: if none can be.
        """
        await anyio.to_thread.run_sync(lambda: self._processes.give_back(self._processes.take()))

    def close(self) -> None:
        """Ends all decoders, whatever they are doing."""
        self._closed = True
        self._processes.close()

    def _perform(self, task: Task, content: bytes, place: Place) -> tuple[Header, bytes]:
        """Has a task performed; one that holds many pixels waits until no other one does."""
        small = _limited(task, min(task.max_pixels, _SMALL))
        answer, result = self._answer(small, content, place)
        if answer.get("error") != "pixels" or task.max_pixels <= _SMALL:
            return self._checked(answer, small), result
        place.leave()
        if not self._large.acquire(timeout=_PATIENCE):
            raise RequestProblem(503, "many large images wait to be decoded; try again soon", {"Retry-After": "5"})
        try:
            large = _limited(task, task.max_pixels)
            answer, result = self._answer(large, content, place)
            return self._checked(answer, large), result
        finally:
            self._large.release()

    def _answer(self, task: Task, content: bytes, place: Place) -> tuple[Header, bytes]:
        """What a decoder answers; if somebody else kills it, what a second one does."""
        for is_last in (False, True):
            process = self._take(new=is_last)  # whatever killed the first may have killed those that wait
            try:
                answer = self._wait(process, task, content, place)
            except _Ended as ended:
                if self._closed:
                    raise _stopping() from ended
                self._metrics.decoder_kills.labels(ended.reason).inc()
                logger.warning("a decoder has ended (%s), and another takes its place", ended.reason)
                if ended.reason != "killed" or is_last:
                    return {"error": ended.reason}, b""
                continue
            except BaseException:
                self._processes.end(process)
                raise
            self._processes.give_back(process)
            return answer
        raise AssertionError("unreachable")

    def _take(self, new: bool) -> DecoderProcess:
        try:
            return self._processes.take(new=new)
        except OSError as error:
            logger.error("%s", error)
            raise RequestProblem(503, "no image can be decoded at the moment; the service's log says why") from error
        except RuntimeError as error:
            raise _stopping() from error

    def _wait(self, process: DecoderProcess, task: Task, content: bytes, place: Place) -> tuple[Header, bytes]:
        """Waits for a decoder's answer; one that takes long gives its place to others, if few do already."""
        end = time.monotonic() + _CLOCK * task.seconds
        gave_way = False
        try:
            process.send(task.header(), content)
            is_ready = process.is_ready(_QUICK)
            while not is_ready and time.monotonic() < end:
                if not gave_way and (not place.is_held or self._slow.acquire(blocking=False)):
                    gave_way = place.is_held
                    place.leave()
                    process.slow_down()
                is_ready = process.is_ready(_SLICE)
            if is_ready:
                return process.receive()
        except (OSError, EOFError):
            raise _Ended(_ENDS.get(self._processes.end(process), "crash")) from None
        finally:
            if gave_way:
                self._slow.release()
        self._processes.end(process)
        raise _Ended("clock")

    def _checked(self, answer: Header, task: Task) -> Header:
        """An answer that reports no error.

        Raises:
            ImageError: that it reports.
            RequestProblem: likewise.
        """
        error, reason = answer.get("error"), answer.get("reason", "")
        if error is None:
            return answer
        if error == "request":
            raise RequestProblem(answer["status"], reason)
        if error == "killed":
            raise RequestProblem(503, "the image's decoder was killed by somebody; try again", {"Retry-After": "2"})
        if error == "memory":
            self._metrics.decoder_kills.labels("memory").inc()
            raise ImageTooLarge(f"decoding it takes more than {task.memory >> 20} MiB of memory")
        if error == "time":
            raise ImageTooCostly(f"decoding it takes more than {task.seconds:g} seconds of processor time")
        if error == "clock":
            raise ImageTooCostly(f"decoding it takes more than {_CLOCK * task.seconds:g} seconds")
        if error == "crash":
            raise ImageTooCostly("its decoder crashed")
        raise _ERRORS[error](reason)


@lru_cache(maxsize=8)
def _as_json(preprocessing: Preprocessing) -> str:
    return preprocessing.model_dump_json()


def _limited(task: Task, max_pixels: int) -> Task:
    return task._replace(max_pixels=max_pixels, memory=_BYTES + _BYTES_A_PIXEL * max_pixels)


def _stopping() -> RequestProblem:
    return RequestProblem(503, "the service is stopping; try again soon", {"Retry-After": "2"})
