"""What decoding in processes costs, beside decoding in the process that asks."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from measurements.process import cpu_seconds, family, shared_memory
from service.encoding.decoding import Decoder
from training.model.bundle import read_manifest
from training.model.images import open_image

__all__ = ["measure_decoders"]

_ROUNDS = 5
_IMAGES = 200  # of each round
_KILLS = 20


def measure_decoders(gallery: Path, sketches: Sequence[bytes]) -> dict[str, object]:
    """Measures time and memory of decoders, with one sketch after the other.

    Args:
        gallery: gallery whose model says how sketches are arranged.
        sketches: image files.
    """
    preprocessing = read_manifest(gallery / "model").encoders.sketch.preprocessing
    images = list(islice(cycle(sketches), _IMAGES))
    with closing(Decoder(os.cpu_count() or 1, 64_000_000)) as decoder:

        def apart(content: bytes) -> None:
            with decoder.place() as place:
                decoder.arranged(content, preprocessing, place, sketch=True)

        def here(content: bytes) -> None:
            preprocessing.arrange(open_image(content, draft=preprocessing.draft, drawing=True))

        _milliseconds(apart, images)
        rounds = [(_milliseconds(here, images), _milliseconds(apart, images)) for _ in range(_ROUNDS)]
        program, *decoders = family(os.getpid())[1:]
        memory = [shared_memory(pid) / 1024**2 for pid in (program, *decoders)]
        return {
            "here_ms": np.median([here for here, _ in rounds]),
            "apart_ms": np.median([apart for _, apart in rounds]),
            "program_mb": memory[0],
            "decoder_mb": max(memory[1:]),
            "replacing_ms": np.median([_replacing(apart, images[0]) for _ in range(_KILLS)]),
        }


def _milliseconds(call: Callable[[bytes], None], images: Sequence[bytes]) -> float:
    """Processor time of each image, here and in the processes below."""
    started = cpu_seconds(os.getpid())
    for image in images:
        call(image)
    return 1000 * (cpu_seconds(os.getpid()) - started) / len(images)


def _replacing(call: Callable[[bytes], None], image: bytes) -> float:
    """Milliseconds that an image takes longer whose decoder is killed."""
    started = time.perf_counter()
    call(image)
    usual = time.perf_counter() - started
    os.kill(family(os.getpid())[-1], signal.SIGKILL)
    started = time.perf_counter()
    call(image)
    return 1000 * (time.perf_counter() - started - usual)
