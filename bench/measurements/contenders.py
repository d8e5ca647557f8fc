"""The indexes to compare: how each is built into a folder, loaded from it and searched."""

import importlib
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
from training.model.truncation import truncate, zero_pad

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


def _build_lists(vectors: Vectors, folder: Path) -> None:
    count, dim = vectors.shape
    ours = build_kind("ivf", vectors).index
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(ours.quantizer.reconstruct_n(0, ours.nlist))
    numbers = np.empty(count, np.int64)
    for number in range(ours.nlist):
        numbers[faiss.rev_swig_ptr(ours.invlists.get_ids(number), ours.invlists.list_size(number))] = number
    index = faiss.IndexIVFFlat(quantizer, dim, ours.nlist, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.add_core(count, faiss.swig_ptr(vectors), None, faiss.swig_ptr(numbers))
    faiss.write_index(index, str(folder / "ivf"))


def _load_lists(folder: Path, dim: int) -> Loaded:
    lists = faiss.read_index(str(folder / "ivf"))

    def search(queries: Vectors, d: int, effort: int | None) -> Positions:
        return lists.search(zero_pad(queries, d), K, params=faiss.SearchParametersIVF(nprobe=effort))[1]

    return Loaded(search, [effort for effort in _GROWING if effort <= lists.nlist])


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
        accelerator = read_kind(kind, folder)
        efforts: list[int | None] = [None, *(e for e in _GROWING if e <= accelerator.largest_effort)]
        return Loaded(
            lambda queries, d, effort: _reranked(accelerator, queries, d, effort),
            _GROWING if kind == "hnsw" else efforts,
        )

    return Contender(lambda vectors, folder: build_kind(kind, vectors).write(folder), load)


def _reranked(accelerator: Any, queries: Vectors, dimensions: int, effort: int | None) -> Positions:
    reachable = accelerator.index.ntotal
    found = candidates(accelerator, queries, K, dimensions, reachable=reachable, effort=effort)
    if not accelerator.error:
        return found[:, :K]
    rows = []
    for query, row in zip(truncate(queries, dimensions), found, strict=True):
        scores = truncate(accelerator.gather(row), dimensions) @ query
        rows.append(row[np.argsort(-scores, kind="stable")[:K]])
    return np.stack(rows)


CONTENDERS = {
    "flat": Contender(_build_flat, _load_flat),
    "ivf flat": Contender(_build_lists, _load_lists),
    "usearch": Contender(_build_usearch, _load_usearch),
    "hnswlib": Contender(_build_hnswlib, _load_hnswlib),
} | {kind: _ours(kind) for kind in ("exact", "ivf", "sq8", "fp16", "hnsw")}
