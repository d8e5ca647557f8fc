"""Exact search on a device, by several ways that must find the same."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from index.accelerators.dimension_major import DimensionMajorMatrix

__all__ = ["measure_search"]

K = 10
QUERIES = 64
ROUNDS = 10
BLOCK = 1 << 18

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], NDArray[np.int64]]


def measure_search(count: int, dim: int, dimensions: tuple[int, ...], device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields a row for every way, number of dimensions and number of queries at once.

    Args:
        count: number of vectors; their coordinates decrease like 1 / sqrt(mode).
        dim: number of coordinates.
        dimensions: numbers of leading coordinates to compare.
        device: that holds them.
    """
    vectors = _vectors(count, dim, device, seed=0)
    queries = _vectors(QUERIES, dim, device, seed=1)
    truth: dict[int, NDArray[np.int64]] = {}
    for name, way in WAYS.items():
        started = time.perf_counter()
        try:
            with way(vectors, device) as search:
                building = time.perf_counter() - started
                for number in dimensions:
                    found = search(queries, number)
                    truth.setdefault(number, found)
                    facts = {"way": name, "vectors": count, "dimensions": number, "seconds_to_build": building}
                    yield facts | {"same": _overlap(found, truth[number])} | _times(search, queries, number)
                del search  # and with it what the device holds
        except (RuntimeError, MemoryError) as error:  # such as one that does not fit beside the others
            yield {"way": name, "vectors": count, "error": str(error).splitlines()[0]}
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _vectors(count: int, dim: int, device: torch.device, seed: int) -> Vectors:
    """Made on the device, which is much faster than in main memory."""
    generator = torch.Generator(device).manual_seed(seed)
    decay = torch.arange(1, dim + 1, device=device).sqrt()
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, BLOCK):
        rows = vectors[start : start + BLOCK]
        rows[:] = (torch.randn(*rows.shape, generator=generator, device=device) / decay).cpu().numpy()
    return vectors


def _overlap(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Share of the results that the first way has found as well."""
    pairs = zip(found, expected, strict=True)
    return sum(len(np.intersect1d(one, other)) for one, other in pairs) / expected.size


def _times(search: Search, queries: Vectors, dimensions: int) -> dict[str, float]:
    """Median milliseconds of a search with one query, and with all of them."""
    found = {}
    for name, some in (("one", queries[:1]), ("all", queries)):
        rounds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            search(some, dimensions)  # the results are in main memory, so the device is done
            rounds.append(time.perf_counter() - started)
        found[f"ms_{name}"] = 1000 * float(np.median(rounds))
    return found | {"queries": len(queries)}


@contextmanager
def _plain(vectors: Vectors, device: torch.device) -> Iterator[Search]:
    """A matrix of rows, and nothing else."""
    matrix = torch.from_numpy(vectors).to(device)
    rows = max(1, (1 << 28) // len(vectors))

    def search(queries: Vectors, dimensions: int) -> NDArray[np.int64]:
        parts = torch.from_numpy(np.ascontiguousarray(queries[:, :dimensions])).to(device).split(rows)
        best = [(part @ matrix[:, :dimensions].T).topk(K, dim=1).indices for part in parts]
        return torch.cat(best).cpu().numpy()

    yield search


@contextmanager
def _flat(vectors: Vectors, device: torch.device) -> Iterator[Search]:
    """FAISS's flat index, with zeros in the other coordinates: it holds no second copy for fewer dimensions."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    if device.type == "cuda":
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            raise RuntimeError("this FAISS has no GPU")
        resources = faiss.StandardGpuResources()
        flat = faiss.GpuIndexFlatIP(resources, vectors.shape[1])
    for start in range(0, len(vectors), BLOCK):
        flat.add(vectors[start : start + BLOCK])

    def search(queries: Vectors, dimensions: int) -> NDArray[np.int64]:
        cut = queries.copy()
        cut[:, dimensions:] = 0
        found: NDArray[np.int64] = flat.search(cut, K)[1]
        return found

    yield search


@contextmanager
def _dimension_major(vectors: Vectors, device: torch.device, *, half: bool) -> Iterator[Search]:
    matrix = DimensionMajorMatrix(vectors, device, half=half)
    yield lambda queries, dimensions: matrix.search(queries, K, dimensions)[1]


WAYS = {
    "plain PyTorch": _plain,
    "svdraw": lambda vectors, device: _dimension_major(vectors, device, half=False),
    "svdraw, 16 bits": lambda vectors, device: _dimension_major(vectors, device, half=True),
    "FAISS flat": _flat,
}
