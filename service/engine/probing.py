"""A search that shows whether searches are answered."""

from contextlib import closing

import anyio
import anyio.to_thread
import numpy as np

from index.gallery.catalogue import Catalogue
from service.encoding.workers import Workers
from service.engine.serving import GalleryServing
from service.errors import RequestProblem
from service.http.stopwatch import Stopwatch

__all__ = ["probe"]

_SECONDS = 10.0  # in which a search must end
_LOOK_SECONDS = 0.1  # between two looks at whether a queue that is full moves
_HITS = 10


async def probe(serving: GalleryServing, workers: Workers) -> None:
    """Searches for the photos in a direction by chance, in the threads that requests use, and with a place among them.

    Busy threads are no failure, as long as they end their work.

    Args:
        serving: what is served.
        workers: threads that answer requests.

    Raises:
        TimeoutError: if threads are stuck.
        SvdrawError: if the gallery cannot be searched.
    """
    with anyio.fail_after(_SECONDS):
        await anyio.to_thread.run_sync(_read, serving, [], abandon_on_cancel=True)
        try:
            await workers.run(Stopwatch(), _search, serving)
        except RequestProblem:  # the queue is full
            before = workers.finished
            while workers.finished == before:
                await anyio.sleep(_LOOK_SECONDS)


def _search(serving: GalleryServing) -> None:
    direction = np.random.default_rng().standard_normal((1, serving.searcher.dim), np.float32)
    with serving.model.place(Stopwatch()):
        [hits] = serving.searcher.search(direction, _HITS)
        _read(serving, [hit.id for hit in hits])


def _read(serving: GalleryServing, ids: list[int]) -> None:
    """Reads facts of photos by the connections that requests use, and by a new one, which has nothing in memory."""
    serving.gallery.catalogue.photos(ids)
    with closing(Catalogue(serving.gallery.catalogue.path)) as catalogue:
        catalogue.photos(ids)
