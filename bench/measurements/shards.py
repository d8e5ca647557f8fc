"""What ``bench/shards.py`` measures: calls of replicas, and searches over shards on a cluster and in this process."""

import json
import os
import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from index.gallery.publishing import SHARED_ORDER
from index.shards.layout import read_shards, shard_folder
from measurements.nodes import started_cluster
from measurements.shard_drills import run_drills
from service.settings import ServiceSettings
from service.shards.fleet import Fleet, open_local
from service.shards.ray_serve import open_deployed
from service.shards.searching import Heard, ShardsCatalogue, ShardsSearcher
from training.model.gallery_order import read_gallery_order

__all__ = ["measure_shards"]

_SECONDS = 60.0  # for an answer
_WARM_UP = 20  # calls


def measure_shards(options: Namespace) -> None:
    """Makes the calls in turns, and prints and writes the figures."""
    path = options.shards.resolve()
    folders = [shard_folder(path, shard) for shard in range(read_shards(path).shards)]
    order = read_gallery_order(path / SHARED_ORDER)
    with started_cluster(2, 2) as cluster, _environment(cluster.environment), TemporaryDirectory() as scratch:
        try:
            settings = ServiceSettings(gallery=path, ray=cluster.address, replica_processors=0.5)
            deployed = open_deployed(settings, folders)
            with (
                closing(Fleet(deployed, _SECONDS)) as there,
                closing(Fleet(open_local(folders, "cpu", 1000), _SECONDS)) as here,
            ):
                calls = {
                    "calls of actors": _actors(len(folders)),
                    "calls of replicas": lambda _: there.ask_all(
                        dict.fromkeys(range(len(folders)), ("same_content", ""))
                    ),
                    "a search on the cluster": _search(there, order, options.limit),
                    "a search in this process": _search(here, order, options.limit),
                }
                report: dict[str, Any] = _times(calls, options.calls, len(order.photo_map))
                report["added"] = round(report["a search on the cluster"] - report["a search in this process"], 3)
                report["added beyond calls of actors"] = round(report["added"] - report["calls of actors"], 3)
                print(json.dumps(report, indent=2))
                if options.drills:
                    copy = Path(shutil.copytree(path, Path(scratch) / "shards"))
                    own = settings.model_copy(update={"gallery": copy, "replica_processors": 0})
                    report |= run_drills([shard_folder(copy, shard) for shard in range(len(folders))], own)
        finally:
            import_module("ray").shutdown()  # before the cluster ends, which it would look for
    text = json.dumps(report, indent=2)
    if options.drills:
        print(text)
    if options.json:
        options.json.write_text(text + "\n")


@contextmanager
def _environment(names: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(names)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _search(fleet: Fleet, order: Any, limit: int) -> Callable[[Any], object]:
    fleet.look()

    def search(query: Any) -> object:
        heard = Heard.nothing()
        searcher, catalogue = ShardsSearcher(fleet, heard, order), ShardsCatalogue(fleet, heard)
        [hits] = searcher.search(query[None], limit)
        return catalogue.photos([hit.id for hit in hits], most=0)

    return search


def _actors(count: int) -> Callable[[Any], object]:
    """Calls of as many actors as there are shards, at the same time."""

    class Nothing:  # which nodes get by value, for they cannot import this module
        def call(self, query: Any) -> None:
            pass

    ray = import_module("ray")
    actors = [ray.remote(num_cpus=0)(Nothing).remote() for _ in range(count)]
    return lambda query: ray.get([actor.call.remote(query) for actor in actors])


def _times(calls: dict[str, Callable[[Any], object]], count: int, dim: int) -> dict[str, float]:
    """Medians in milliseconds; the calls take turns, so that all meet the same disturbances."""
    random, taken = np.random.default_rng(0), {name: list[float]() for name in calls}
    for _ in range(_WARM_UP + count):
        query = random.standard_normal(dim, np.float32)
        for name, call in calls.items():
            started = time.perf_counter()
            call(query)
            taken[name].append(1000 * (time.perf_counter() - started))
    return {name: round(float(np.median(some[_WARM_UP:])), 3) for name, some in taken.items()}
