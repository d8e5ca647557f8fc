"""What a service pays when photos change: publishing, and switching to a generation with the same base or another."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from index.gallery.searcher import Searcher
from measurements.process import resident_memory

__all__ = ["Switches", "measure_switches"]

# In a process of its own, as a service has it done, so that only the switch is measured.
NEW_BASE = """
import sys
from pathlib import Path
from index.gallery.directory import Gallery
Gallery.open(Path(sys.argv[1]), write=True).publish()
"""


class Switches(NamedTuple):
    """Costs of changes of a generation.

    Attributes:
        publish_cpu: processor time of publishing one more photo beside the base, in seconds.
        same_seconds: of the switch to that generation.
        same_memory: bytes that this switch takes for good.
        other_seconds: of the switch to a generation with another base.
        before: bytes of the searcher before the switch to another base.
        both: bytes while both bases are open.
        after: bytes once the first one is closed.
    """

    publish_cpu: float
    same_seconds: float
    same_memory: int
    other_seconds: float
    before: int
    both: int
    after: int


def measure_switches(path: Path, photos: list[NewPhoto]) -> Switches:
    """Adds photos one by one, publishes each, and switches; the medians count. Then switches to another base."""
    empty = resident_memory()
    searcher = Searcher.open(path, "cpu")
    _search(searcher)
    whole = resident_memory()
    publishing, switching = [], []
    with closing(Gallery.open(path, write=True)) as gallery:
        for photo in photos:
            gallery.catalogue.add([photo])
            publishing.append(_timed(gallery.publish_layer, time.process_time))
            started = time.perf_counter()
            searcher = _next(path, searcher)
            switching.append(time.perf_counter() - started)
        grown = resident_memory()
        subprocess.run([sys.executable, "-c", NEW_BASE, str(path)], check=True)
        started = time.perf_counter()
        successor = _next(path, searcher)
        seconds = time.perf_counter() - started
        both = resident_memory()
        del searcher
        after = resident_memory()
        gallery.catalogue.remove(list(gallery.catalogue.ids(photo.uri for photo in photos).values()))
    assert successor.base is not None
    return Switches(
        float(np.median(publishing)),
        float(np.median(switching)),
        grown - whole,
        seconds,
        *(size - empty for size in (grown, both, after)),
    )


def _next(path: Path, searcher: Searcher) -> Searcher:
    """Opens the published generation as a service does, until it has answered a first search."""
    successor = Searcher.open(path, "cpu", previous=searcher)
    _search(successor)
    return successor


def _search(searcher: Searcher) -> None:
    searcher.search(np.eye(1, searcher.dim, dtype=np.float32), 10)


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started
