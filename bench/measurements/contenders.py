"""The indexes to compare: how each is built into a folder, loaded from it and searched."""

import importlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.candidates import candidates
from index.accelerators.kinds import build_kind, read_kind
from measurements.command import BenchmarkError
from measurements.vectors import Vectors
from training.model.truncation import zero_pad

__all__ = ["CONTENDERS", "RIVALS", "K", "Loaded", "Search", "require"]

K = 10
GRAPH = {"links": 16, "build": 100}  # parameters of every HNSW graph
RIVALS = ("usearch", "hnswlib")  # names of indexes and of their Python packages
_GROWING = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048]

Positions = NDArray[np.int64]
Search = Callable[[Vectors, int, int | None], Positions]  # queries, dimensions, effort -> positions


class Loaded(NamedTuple):
    """An index that was loaded from disk, and the efforts to try; None stands for an exact search."""

    search: Search
    efforts: list[int | None]


class Contender(NamedTuple):
    """``build(vectors, folder)`` writes an index of vectors ``(n, dim)``; ``load(folder, dim)`` loads it."""

    build: Callable[[Vectors, Path], None]
    load: Callable[[Path, int], Loaded]


def require(kinds: Iterable[str]) -> None:
    """Reports a package that is not installed before anything is measured."""
    for kind in kinds:
        if kind in RIVALS:
            try:
                importlib.import_module(kind)
            except ModuleNotFoundError as error:
                raise BenchmarkError(
                    f'{kind} is not installed: pip install -c constraints.txt -e ".[bench]", or choose other --kinds'
                ) from error


def _graph_efforts() -> list[int | None]:
    return [effort for effort in _GROWING if effort >= K]


def _build_flat(vectors: Vectors, folder: Path) -> None:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "flat"))


def _load_flat(folder: Path, dim: int) -> Loaded:
    flat = faiss.read_index(str(folder / "flat"))
    return Loaded(lambda queries, d, _: flat.search(zero_pad(queries, d), K)[1], [None])


def _build_factory(text: str, vectors: Vectors, folder: Path) -> None:
    index = faiss.index_factory(vectors.shape[1], text, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(folder / "factory"))


def _load_lists(folder: Path, dim: int) -> Loaded:
    lists = faiss.read_index(str(folder / "factory"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        return lists.search(zero_pad(queries, d), K, params=faiss.SearchParametersIVF(nprobe=effort))[1]

    return Loaded(search, [effort for effort in _GROWING if effort <= lists.nlist])


def _load_graph(folder: Path, dim: int) -> Loaded:
    graph = faiss.read_index(str(folder / "factory"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        return graph.search(zero_pad(queries, d), K, params=faiss.SearchParametersHNSW(efSearch=effort))[1]

    return Loaded(search, _graph_efforts())


def _load_refined(folder: Path, dim: int) -> Loaded:
    refined = faiss.read_index(str(folder / "factory"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        parameters = faiss.IndexRefineSearchParameters(k_factor=effort / K)
        return refined.search(zero_pad(queries, d), K, params=parameters)[1]

    return Loaded(search, _graph_efforts())


def _build_usearch(vectors: Vectors, folder: Path) -> None:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=GRAPH["links"],
        expansion_add=GRAPH["build"],
    )
    index.add(np.arange(len(vectors)), vectors, threads=faiss.omp_get_max_threads())
    index.save(str(folder / "usearch"))


def _load_usearch(folder: Path, dim: int) -> Loaded:
    from usearch.index import Index

    graph = Index.restore(str(folder / "usearch"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        graph.expansion_search = effort
        found = graph.search(zero_pad(queries, d), K, threads=faiss.omp_get_max_threads())
        return found.keys.reshape(len(queries), -1).astype(np.int64)

    return Loaded(search, _graph_efforts())


def _build_hnswlib(vectors: Vectors, folder: Path) -> None:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=GRAPH["links"], ef_construction=GRAPH["build"])
    index.add_items(vectors, num_threads=faiss.omp_get_max_threads())
    index.save_index(str(folder / "hnswlib"))


def _load_hnswlib(folder: Path, dim: int) -> Loaded:
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=dim)
    graph.load_index(str(folder / "hnswlib"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        graph.set_ef(effort)
        found = graph.knn_query(zero_pad(queries, d), K, num_threads=faiss.omp_get_max_threads())
        return found[0].astype(np.int64)

    return Loaded(search, _graph_efforts())


def _ours(kind: Any) -> Contender:
    def load(folder: Path, dim: int) -> Loaded:
        accelerator: Any = read_kind(kind, folder)
        count = accelerator.index.ntotal if kind == "exact" else len(accelerator.vectors)
        efforts: list[int | None] = [None, *(e for e in _GROWING if K <= e <= accelerator.largest_effort)]

        def search(queries: Vectors, d: int, effort: int | None) -> Positions:
            return candidates(accelerator, queries, K, d, reachable=count, effort=effort)[:, :K]

        return Loaded(search, efforts)

    return Contender(lambda vectors, folder: build_kind(kind, vectors).write(folder), load)


CONTENDERS = {
    "flat": Contender(_build_flat, _load_flat),
    "ivf": Contender(lambda *args: _build_factory(f"IVF{4 * math.isqrt(len(args[0]))},Flat", *args), _load_lists),
    "hnsw": Contender(lambda *args: _build_factory("HNSW16,Flat", *args), _load_graph),
    "sq8": Contender(lambda *args: _build_factory("SQ8,Refine(Flat)", *args), _load_refined),
    "rabitq": Contender(lambda *args: _build_factory("RaBitQfs,Refine(Flat)", *args), _load_refined),
    "pq": Contender(lambda *args: _build_factory(f"PQ{args[0].shape[1] // 2}x4fs,Refine(Flat)", *args), _load_refined),
    "usearch": Contender(_build_usearch, _load_usearch),
    "hnswlib": Contender(_build_hnswlib, _load_hnswlib),
} | {kind: _ours(kind) for kind in ("exact", "codes", "disk")}
