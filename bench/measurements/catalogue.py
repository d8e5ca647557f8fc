"""Catalogues of random photos, and what filters, changes and lookups cost there."""

import hashlib
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from index.gallery.catalogue import Catalogue
from index.gallery.photos import NewPhoto
from measurements.process import latencies_ms

__all__ = ["measure_catalogues"]

BLOCK = 4096  # photos in one transaction
FIELDS = ("shop", "year", "price", "tags")
FILTERS: dict[str, dict[str, Any]] = {
    "half of the photos": {"shop": "north"},
    "half of the photos, ten years": {"shop": "north", "year": {"gte": 1950, "lt": 1960}},
    "a hundredth": {"year": 1977},
    "a tenth, by a range of prices": {"price": {"lt": 10_000}},
    "a fifth, by a member of a list": {"tags": "tag 3"},
    "no photo": {"shop": "nowhere"},
    "one of twelve colours": {"color": "red"},
}


def measure_catalogues(options: Namespace) -> None:
    """Measures catalogues of every size and prints a table of each."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        for dim in options.dims:
            for count in options.counts:
                path = Path(name) / f"catalogue-{dim}-{count}.sqlite"
                print(f"\n{count:,} photos, {dim} dimensions:\n\n| what | wall-clock time, ms | processor time, ms |")
                print("| --- | --- | --- |", flush=True)
                _measure(path, count, dim, options.lookups)
                path.unlink()


def _measure(path: Path, count: int, dim: int, lookups: int) -> None:
    with closing(Catalogue(path, create=True)) as catalogue:
        _timed("adding the photos, each", lambda: _fill(catalogue, count, dim), count)
    size = path.stat().st_size / count
    with closing(Catalogue(path)) as reader:
        _timed("reading ids and vectors in order, each photo", lambda: [None for _ in reader.blocks(dim)], count)
        for name, wanted in FILTERS.items():
            _timed(f"filter: {name}", lambda wanted=wanted: reader.select(wanted))
        _beside_a_slow_filter(reader, count, lookups)
    with closing(Catalogue(path, create=True)) as catalogue:
        _timed("making four fields filterable, each photo", lambda: catalogue.set_filterable(FIELDS), count)
        for name, wanted in FILTERS.items():
            _timed(f"filterable: {name}", lambda wanted=wanted: catalogue.select(wanted))
        revision = catalogue.revision
        catalogue.add([_photo(number, np.zeros(dim, np.float32)) for number in range(100)])
        _timed("finding 100 changes", lambda: (catalogue.changed_after(revision), catalogue.removed_after(revision)))
        _timed("reading 100 changes", lambda: list(catalogue.blocks(dim, changed_after=revision)))
        _timed("integrity check", catalogue.problems)
    facts, postings = size - 4 * dim, path.stat().st_size / count - size
    print(f"\nA photo takes {size:.0f} bytes, {facts:.0f} beside its vector; four filterable fields {postings:.0f}.")


def _fill(catalogue: Catalogue, count: int, dim: int) -> None:
    random = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        vectors = random.standard_normal((min(BLOCK, count - start), dim), dtype=np.float32)
        catalogue.add([_photo(number, vector) for number, vector in enumerate(vectors, start)])


def _photo(number: int, vector: np.ndarray) -> NewPhoto:
    uri = f"/home/somebody/Pictures/{number // 1000:04d}/picture-{number:09d}.jpg"
    digest = hashlib.sha256(uri.encode())
    chance = int.from_bytes(digest.digest()[:8])
    facts = {
        "shop": "north" if chance % 2 else "south",
        "year": 1900 + chance // 2 % 100,
        "price": chance // 200 % 100_000,
        "tags": [f"tag {chance // 7 % 10}", f"tag {chance // 77 % 10}"],
    }
    return NewPhoto(
        uri, digest.hexdigest(), 2_000_000, number, 4000, 3000, f"class {number % 1000}", facts, vector, _colors(chance)
    )


def _colors(chance: int) -> int:
    """Shares of three colours out of twelve, each of which is one of the photo."""
    return sum(10 << 5 * (chance // 12**place % 4 + 4 * place) for place in range(3))


def _beside_a_slow_filter(reader: Catalogue, count: int, lookups: int) -> None:
    """Looks photos up while another thread filters by a field that is not filterable."""
    started, slow = threading.Event(), threading.Event()

    def filter_slowly() -> None:
        started.set()
        reader.select({"shop": "nowhere"})
        slow.set()

    thread = threading.Thread(target=filter_slowly)
    thread.start()
    started.wait()
    times = latencies_ms(lambda number: reader.photos(range(1 + number, count, max(1, count // 20))), lookups)
    beside = "after" if slow.is_set() else "beside"
    thread.join()
    print(f"| the slowest of {lookups} lookups of 20 photos {beside} a slow filter | {times.max():.1f} | |", flush=True)


def _timed(name: str, work: Callable[[], object], times: int = 1) -> None:
    """Prints a row with the time of one piece of work, divided by ``times``."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"| {name} | {1000 * wall / times:.3g} | {1000 * cpu / times:.3g} |", flush=True)
