"""What searches over shards on a cluster meet while replicas are killed, deployed anew and given new generations."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from index.gallery.directory import Gallery
from index.gallery.publishing import SHARED_ORDER
from service.errors import RequestProblem
from service.settings import ServiceSettings
from service.shards.fleet import Fleet
from service.shards.ray_serve import application_name, open_deployed
from service.shards.searching import Heard, ShardsCatalogue, ShardsSearcher
from training.model.gallery_order import GalleryOrder, read_gallery_order

__all__ = ["replicas_of", "run_drills"]

_PATIENCE = 300.0  # seconds; they only keep a drill that would hang from hanging
_PAUSE = 0.1  # seconds between two questions what the shards hold
_LIMIT = 24


class _Load:
    """Searches without a pause, and counts those that are answered, partial or failed."""

    def __init__(self, fleet: Fleet, order: GalleryOrder) -> None:
        self._fleet, self._order = fleet, order
        self.counts = Counter[str]()

    @contextmanager
    def running(self) -> Iterator[None]:
        end = threading.Event()
        threads = [threading.Thread(target=work, args=(end,)) for work in (self._search, self._look)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join()

    def _search(self, end: threading.Event) -> None:
        random = np.random.default_rng(0)
        while not end.is_set():
            heard = Heard.nothing()
            query = random.standard_normal((1, len(self._order.photo_map)), np.float32)
            try:
                [hits] = ShardsSearcher(self._fleet, heard, self._order).search(query, _LIMIT)
                ShardsCatalogue(self._fleet, heard).photos([hit.id for hit in hits], most=0)
            except Exception as error:
                self.counts[f"failed: {type(error).__name__}"] += 1
            else:
                self.counts["partial" if heard.missing else "complete"] += 1

    def _look(self, end: threading.Event) -> None:
        while not end.wait(_PAUSE):
            with suppress(RequestProblem):  # which the searches count
                self._fleet.look()


def run_drills(folders: Sequence[Path], settings: ServiceSettings) -> dict[str, dict[str, Any]]:
    """Runs all drills on shards with two replicas each, which are deployed for them, and changes the shards.

    Args:
        folders: of the shards.
        settings: of the service; ``ray`` is the cluster.

    Returns:
        By drill, the numbers of searches that were complete, partial or failed, and the seconds that it took.
    """
    settings = settings.model_copy(update={"replicas": 2})
    order = read_gallery_order(folders[0].parent / SHARED_ORDER)
    with closing(Fleet(open_deployed(settings, folders), settings.shard_seconds)) as fleet:
        fleet.look(_PATIENCE)
        drills: dict[str, Callable[[], None]] = {
            "one of two replicas is killed": lambda: _kill(folders[0], 1),
            "all replicas of a shard are killed": lambda: _lose(fleet, folders[-1]),
            "a generation is published": lambda: _publish(fleet, folders),
            "the shards are deployed anew": lambda: _deploy(settings, folders),
        }
        return {name: _drilled(fleet, order, drill) for name, drill in drills.items()}


def _drilled(fleet: Fleet, order: GalleryOrder, drill: Callable[[], None]) -> dict[str, Any]:
    load = _Load(fleet, order)
    with load.running():
        _await(lambda: load.counts["complete"] > 0)
        started = time.monotonic()
        drill()
        seconds = time.monotonic() - started
        before = load.counts["complete"]
        _await(lambda: load.counts["complete"] > before + 1)
    return {"complete": 0, "partial": 0} | dict(load.counts) | {"seconds": round(seconds, 1)}


def _kill(folder: Path, count: int) -> set[int]:
    lost = set(replicas_of(folder)[:count])
    for process in lost:
        os.kill(process, signal.SIGKILL)
    _await(lambda: len(set(replicas_of(folder)) - lost) == 2)
    return lost


def _lose(fleet: Fleet, folder: Path) -> None:
    _kill(folder, 2)
    _await(lambda: not fleet.away)


def _publish(fleet: Fleet, folders: Sequence[Path]) -> None:
    """Publishes a base of each shard; of several replicas the one that is asked says which it has."""
    wanted = {}
    for shard, folder in enumerate(folders):
        with closing(Gallery.open(folder, write=True)) as gallery, gallery.writing():
            wanted[shard] = gallery.publish().generation
    _await(lambda: {shard: facts.manifest.generation for shard, facts in fleet.facts.items()} == wanted)


def _deploy(settings: ServiceSettings, folders: Sequence[Path]) -> None:
    """Deploys the shards with another option, so that Ray replaces every replica."""
    before = {process for folder in folders for process in replicas_of(folder)}
    open_deployed(settings.model_copy(update={"live_changes": settings.live_changes + 1}), folders)
    _await(lambda: not before & {process for folder in folders for process in replicas_of(folder)})


def replicas_of(folder: Path) -> list[int]:
    """Processes of a shard's replicas on this machine, by the titles that Ray gives them."""
    title = f"ServeReplica:{application_name(folder)}:".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if title in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def _await(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("the cluster does not come to the state that the drill waits for")
        time.sleep(_PAUSE)
