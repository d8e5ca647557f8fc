"""Time, memory and recall of kinds of indexes on the same vectors, as a table and a plot."""

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.kinds import KEEP_VECTORS
from measurements.command import BenchmarkError
from measurements.contenders import CONTENDERS, K, Loaded, Search, require
from measurements.embeddings import read_embeddings
from measurements.process import latencies_ms, resident_memory
from measurements.vectors import Vectors, near_copies, random_vectors
from training.model.gallery_order import order_of_photos
from training.model.truncation import truncate

__all__ = ["compare_kinds"]

WANTED = 0.99
ROUNDS = 5  # of all queries; the quickest of each counts, because other work on the machine only slows them

Truths = dict[int, NDArray[np.int64]]  # by number of dimensions


def compare_kinds(options: Namespace) -> None:
    """Measures, prints a table, and updates the figures and the plot."""
    require(options.kinds)
    if min(options.counts) < K:
        raise BenchmarkError(f"--counts must be at least {K}, the number of results")
    faiss.omp_set_num_threads(options.threads)
    photos, queries = _photos_and_queries(options)
    rows = _kept(options.json, {(count, kind) for count in options.counts for kind in options.kinds})
    for count in options.counts:
        vectors = photos(count)
        truths = _truths(vectors, queries, options.dimensions)
        for kind in options.kinds:
            rows += _measured(kind, vectors, queries, truths)
            print(f"{count} {kind} done", flush=True)
    print(f"top {K}, {len(queries)} queries, {options.threads} thread(s); memory in copies of the vectors")
    _show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.plot:
        _plot(rows, options.plot, queries.shape[1])


def _photos_and_queries(options: Namespace) -> tuple[Callable[[int], Vectors], Vectors]:
    """A function that gives so many vectors, and queries ``(n, dim)``, both cut to ``--dim`` coordinates."""
    random, dim = np.random.default_rng(0), options.dim
    if options.embeddings is None:
        return lambda count: random_vectors(count, random, dim), random_vectors(options.queries, random, dim)
    stored = read_embeddings(options.embeddings)
    whole = np.unique(stored.source, return_index=True)[1]
    photos = stored.photos if options.copies is None else stored.photos[whole]
    if options.copies is None and max(options.counts) > len(photos):
        raise BenchmarkError(f"{options.embeddings} holds {len(photos)} photos; choose smaller --counts or --copies")
    order = order_of_photos(photos, stored.spectrum.tolist())
    vectors = order.photos(random.permutation(photos))[:, :dim]
    queries = order.sketches(random.permutation(stored.sketches)[: options.queries])[:, :dim]

    def some(count: int) -> Vectors:
        if options.copies is None:
            return np.ascontiguousarray(vectors[:count])
        return near_copies(vectors, count, random, options.copies)

    return some, np.ascontiguousarray(queries)


def _kept(file: Path | None, anew: set[tuple[int, str]]) -> list[dict[str, Any]]:
    """Figures of earlier runs without those that are measured again."""
    kept = json.loads(file.read_text()) if file and file.exists() else []
    return [row for row in kept if (row["count"], row["kind"]) not in anew]


def _truths(vectors: Vectors, queries: Vectors, wanted: Sequence[int]) -> Truths:
    dim, truths = queries.shape[1], {}
    for dimensions in sorted({dim, *(d for d in wanted if d < dim)}, reverse=True):
        cut = (np.ascontiguousarray(truncate(some, dimensions)) for some in (queries, vectors))
        truths[dimensions] = faiss.knn(*cut, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return truths


def _measured(kind: str, vectors: Vectors, queries: Vectors, truths: Truths) -> list[dict[str, Any]]:
    """Measures exact searches at every number of dimensions, and others at all dimensions; returns one row each."""
    dim = vectors.shape[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = vectors
        if kind in KEEP_VECTORS:
            np.save(folder / "vectors.npy", vectors)
            source = np.load(folder / "vectors.npy", mmap_mode="r")
        started = time.perf_counter()
        CONTENDERS[kind].build(source, folder)
        seconds = time.perf_counter() - started
        before = resident_memory()
        loaded = CONTENDERS[kind].load(folder, dim)
        memory = (resident_memory() - before) / vectors.nbytes
        facts = {"count": len(vectors), "kind": kind, "build_s": seconds, "memory": memory}
        rows = []
        if None in loaded.efforts:
            rows += [_row(loaded.search, queries, d, None, truth) | {"exact": True} for d, truth in truths.items()]
        if any(effort is not None for effort in loaded.efforts):
            effort = _least_effort(loaded, queries, dim, truths[dim])
            rows.append(_row(loaded.search, queries, dim, effort, truths[dim]) | {"exact": False})
        return [facts | row for row in rows]


def _least_effort(loaded: Loaded, queries: Vectors, dim: int, truth: NDArray[np.int64]) -> int | None:
    """The first effort that finds enough of the true results, or the largest one."""
    efforts = [effort for effort in loaded.efforts if effort is not None]
    return next((e for e in efforts if _recall(loaded.search(queries, dim, e), truth) >= WANTED), efforts[-1])


def _recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    hits = [len(set(row) & set(truth)) for row, truth in zip(found.tolist(), exact.tolist(), strict=True)]
    return sum(hits) / exact.size


def _row(
    search: Search, queries: Vectors, dimensions: int, effort: int | None, truth: NDArray[np.int64]
) -> dict[str, Any]:
    found = _recall(search(queries, dimensions, effort), truth)
    rounds, seconds = [], []
    for _ in range(ROUNDS):
        rounds.append(
            latencies_ms(lambda number: search(queries[number : number + 1], dimensions, effort), len(queries))
        )
        started = time.perf_counter()
        search(queries, dimensions, effort)
        seconds.append(time.perf_counter() - started)
    times, a_second = np.min(rounds, axis=0), len(queries) / min(seconds)
    p50, p99 = np.percentile(times, (50, 99))
    facts = {"dimensions": dimensions, "effort": effort, "recall": found}
    return facts | {"p50_ms": p50, "p99_ms": p99, "batch_qps": a_second}


def _show(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'count':>9} {'index':<9}{'':<7}{'dims':>5}{'effort':>7}{'recall':>8}{'build s':>9}"
        f"{'memory':>8}{'p50 ms':>9}{'p99 ms':>9}{'batch/s':>9}{'speed-up':>9}"
    )
    for row in rows:
        base = next((r["p50_ms"] for r in rows if r["kind"] == "flat" and r["count"] == row["count"]), float("nan"))
        print(
            f"{row['count']:>9} {row['kind']:<9}{'exact' if row['exact'] else '':<7}{row['dimensions']:>5}"
            f"{row['effort'] or '':>7}{row['recall']:>8.3f}{row['build_s']:>9.1f}{row['memory']:>8.2f}"
            f"{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['batch_qps']:>9.0f}{base / row['p50_ms']:>9.1f}",
            flush=True,
        )


def _plot(rows: list[dict[str, Any]], file: Path, dim: int) -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4))
    axes = figure.subplots(1, 2)
    names = dict.fromkeys((row["kind"], row["exact"]) for row in rows)
    for colour, name in zip(colormaps["tab20"].colors, names, strict=False):
        some = [row for row in rows if (row["kind"], row["exact"]) == name and row["dimensions"] == dim]
        some.sort(key=lambda row: row["count"])
        for axis, field in zip(axes, ("p50_ms", "build_s"), strict=True):
            label = f"{name[0]}, exact" if name[1] else name[0]
            axis.loglog([row["count"] for row in some], [row[field] for row in some], "o-", label=label, color=colour)
            axis.set(xlabel="vectors", ylabel={"p50_ms": "one query, ms", "build_s": "build, s"}[field])
    axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(file, dpi=120)
