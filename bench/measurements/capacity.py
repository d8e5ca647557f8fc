"""Galleries of random photos, and what a generation of each kind of index costs to build, store, load and search."""

import hashlib
import multiprocessing
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import faiss
import numpy as np

from index.accelerators.kinds import Kind
from index.gallery.directory import Gallery
from index.gallery.generations import generation_folder, read_generation
from index.gallery.photos import NewPhoto, content_key
from index.gallery.searcher import Change, Searcher
from measurements.indexing import small_model
from measurements.process import latencies_ms, peak_memory, resident_memory
from measurements.switching import Switches, measure_switches
from measurements.vectors import random_vectors

__all__ = ["measure_capacity"]

BLOCK = 4096  # photos in one transaction
LIMIT = 10
CHANGES = 5  # photos that are published one by one
SWITCHES = (
    "same base: clock, s",
    "same base: memory, %",
    "other base: clock, s",
    "before, GB",
    "both, GB",
    "after, GB",
)

Result = TypeVar("Result")


class Built(NamedTuple):
    """Costs of publishing a generation: processor and wall-clock seconds, peak memory and disk space in bytes."""

    cpu_seconds: float
    seconds: float
    memory: int
    disk: int


class Served(NamedTuple):
    """Costs of a loaded generation: seconds and bytes to load it; median milliseconds of a search and of a change."""

    seconds: float
    memory: int
    search_ms: float
    change_ms: float


def measure_capacity(options: Namespace) -> None:
    """Measures every kind at every size and prints three tables."""
    scaled, latencies, switches = [], [], []
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        root = Path(name)
        for dim in options.dims:
            model = small_model(root / f"model-{dim}", dim)
            for count in options.counts:
                path = root / f"gallery-{dim}-{count}"
                catalogue = _fill(path, model, count, dim)
                for kind in options.kinds:
                    built = _in_a_fresh_process(_publish, path, kind)
                    served = _in_a_fresh_process(_serve, path, options.queries, options.threads)
                    scaled.append(_scaled_row(kind, dim, count, catalogue, built, served))
                    latencies.append(_row(kind, dim, f"{count:,}", served.search_ms, served.change_ms))
                    switched = _in_a_fresh_process(_switch, path, dim)
                    switches.append(_switch_row(kind, dim, count, switched))
                    print(scaled[-1], flush=True)
    print("\nFor a million photos, scaled in proportion to the number of photos measured:\n")
    columns = (
        "catalogue, GB",
        "generation, GB",
        "memory, GB",
        "load, s",
        "build: memory, GB",
        "processor, s",
        "clock, s",
    )
    print("\n".join([*_heading("kind", "dimensions", "measured with", *columns), *scaled]))
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    print(f"\nAs measured, medians of {options.queries}: an exact search for {LIMIT} photos with {threads}; one photo")
    print("added to the catalogue and to the next search, without the time of embedding it:\n")
    heading = _heading("kind", "dimensions", "photos", "exact search, ms", "one photo more, ms")
    print("\n".join([*heading, *latencies]))
    print(f"\nAs measured, medians of {CHANGES}: publishing one photo beside the base and switching to it, with what a")
    print("switch adds to the memory; and the switch to another base, with the memory before, during and after it:\n")
    heading = _heading("kind", "dimensions", "photos", "publish one: processor, s", *SWITCHES)
    print("\n".join([*heading, *switches]))


def _fill(path: Path, model: Path, count: int, dim: int) -> int:
    """Makes a gallery with a full catalogue and no generation; returns the size of the catalogue in bytes."""
    random = np.random.default_rng(0)
    with closing(Gallery.create(path, model)) as gallery:
        for start in range(0, count, BLOCK):
            vectors = random_vectors(min(BLOCK, count - start), random, dim)
            gallery.catalogue.add([_photo(number, vector) for number, vector in enumerate(vectors, start)])
    return sum(file.stat().st_size for file in path.glob("catalogue.sqlite*"))


def _photo(number: int, vector: np.ndarray) -> NewPhoto:
    uri = f"/home/somebody/Pictures/{number // 1000:04d}/picture-{number:09d}.jpg"
    content = hashlib.sha256(uri.encode()).hexdigest()
    return NewPhoto(uri, content, 2_000_000, number, 4000, 3000, f"class {number % 1000}", {}, vector)


def _publish(path: Path, kind: Kind) -> Built:
    with closing(Gallery.open(path, write=True)) as gallery:
        gallery.configure(kind, None)
        before, cpu, started = resident_memory(), time.process_time(), time.perf_counter()
        number = gallery.publish().generation
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    disk = sum(file.stat().st_size for file in generation_folder(path, number).iterdir())
    return Built(cpu, seconds, peak_memory() - before, disk)


def _serve(path: Path, count: int, threads: int) -> Served:
    """Loads and searches the published generation, then adds and removes single photos as a service does."""
    faiss.omp_set_num_threads(threads)
    queries = random_vectors(count, np.random.default_rng(1), read_generation(path).dim)
    before, started = resident_memory(), time.perf_counter()
    searcher = Searcher.open(path, "cpu")
    seconds = time.perf_counter() - started
    memory = resident_memory() - before
    search = latencies_ms(lambda i: searcher.search(queries[i : i + 1], LIMIT, recall=1), count)
    added: list[int] = []
    with closing(Gallery.open(path, write=True)) as gallery, gallery.writing():

        def change(number: int) -> None:
            nonlocal searcher
            photo = _photo(10**9 - number, queries[number])
            gallery.catalogue.add([photo])
            added.extend(gallery.catalogue.ids([photo.uri]).values())
            content = content_key(photo.sha256)
            searcher = searcher.with_changes([Change(gallery.catalogue.revision, added[-1], content, photo.vector)])

        changes = latencies_ms(change, count)
        gallery.catalogue.remove(added)
    return Served(seconds, memory, float(np.median(search)), float(np.median(changes)))


def _switch(path: Path, dim: int) -> Switches:
    vectors = random_vectors(CHANGES, np.random.default_rng(2), dim)
    return measure_switches(path, [_photo(2 * 10**9 + number, vector) for number, vector in enumerate(vectors)])


def _switch_row(kind: str, dim: int, count: int, cost: Switches) -> str:
    memory = (size / 1e9 for size in (cost.before, cost.both, cost.after))
    added = 100 * cost.same_memory / cost.before
    return _row(kind, dim, f"{count:,}", cost.publish_cpu, cost.same_seconds, added, cost.other_seconds, *memory)


def _in_a_fresh_process(work: Callable[..., Result], *arguments: object) -> Result:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _scaled_row(kind: str, dim: int, count: int, catalogue: int, built: Built, served: Served) -> str:
    times = 1e6 / count
    sizes = (size * times / 1e9 for size in (catalogue, built.disk, served.memory))
    seconds = (round(value * times) for value in (built.cpu_seconds, built.seconds))
    return _row(kind, dim, f"{count:,}", *sizes, served.seconds * times, built.memory * times / 1e9, *seconds)


def _row(*cells: object) -> str:
    return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def _heading(*names: str) -> list[str]:
    return [_row(*names), _row(*("---" for _ in names))]
