"""Every kind of index against FAISS's flat index, usearch and hnswlib, on the same vectors and threads in one run.

    python bench/index_kinds.py [--gallery GALLERY --sketches DIR] [--counts 100000] [--kinds flat exact ivf ...]

With --gallery, its real embeddings are scaled up by resampling with a little noise (--noise, in standard deviations),
and the images below --sketches, embedded by the gallery's sketch encoder, are the queries; --dim cuts both to their
leading coordinates. Without, vectors and queries are random with a spectrum that decays like 1 / sqrt(mode).
Approximate indexes are set to the least effort that finds 99% of the true 10 best of these very queries; `ivf flat` is
FAISS's own, with the lists of `ivf`. --json keeps what it has of other counts and kinds, for the table and --plot.
Memory is what loading the index from disk adds to the process. Ratios hold within a run only.
"""

import argparse
import ctypes
import gc
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import hnswlib
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from usearch.index import Index as USearchIndex

from index.accelerators.candidates import candidates
from index.accelerators.kinds import COMPRESSED, build_kind, read_kind
from index.gallery.generations import load_generation
from training.model.bundle import load_bundle
from training.model.images import IMAGE_SUFFIXES, open_image
from training.model.truncation import truncate, zero_pad

K = 10
WANTED = 0.99
KINDS = ("flat", "exact", "ivf", "ivf flat", "sq8", "fp16", "hnsw", "usearch", "hnswlib")
GRAPH = {"links": 16, "build": 100}  # of every HNSW

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int, int | None], NDArray[np.int64]]  # queries, dimensions, effort -> positions


class Loaded(NamedTuple):
    """An index read from disk, and the efforts to try; None is exact."""

    search: Search
    efforts: list[int | None]


def random_vectors(count: int, random: np.random.Generator, dim: int) -> NDArray[np.float32]:
    decay = np.sqrt(np.arange(1, dim + 1, dtype=np.float32))
    return random.standard_normal((count, dim), dtype=np.float32) / decay


def resampled(
    vectors: NDArray[np.float32], count: int, random: np.random.Generator, noise: float = 0.05
) -> NDArray[np.float32]:
    scale = noise * vectors.std(axis=0)
    found = np.empty((count, vectors.shape[1]), np.float32)
    for start in range(0, count, 1 << 16):
        block = found[start : start + (1 << 16)]
        block[:] = vectors[random.integers(len(vectors), size=len(block))]
        block += scale * random.standard_normal(block.shape, dtype=np.float32)
    return found


def sketch_embeddings(gallery: Path, folder: Path, count: int, random: np.random.Generator) -> NDArray[np.float32]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    chosen = random.choice(len(files), min(count, len(files)), replace=False)
    return load_bundle(gallery / "model", "cpu").encode_sketches([open_image(files[i]) for i in chosen])


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    hits = [len(set(row) & set(truth)) for row, truth in zip(found.tolist(), exact.tolist(), strict=True)]
    return sum(hits) / exact.size


def resident() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def candidates_reranked(accelerator: Any, queries: Vectors, dimensions: int, effort: int | None) -> NDArray[np.int64]:
    reachable = accelerator.index.ntotal
    found = candidates(accelerator, queries, K, dimensions, reachable=reachable, effort=effort)
    if not accelerator.error:
        return found[:, :K]
    rows = []
    for query, row in zip(truncate(queries, dimensions), found, strict=True):
        scores = truncate(accelerator.gather(row), dimensions) @ query
        rows.append(row[np.argsort(-scores, kind="stable")[:K]])
    return np.stack(rows)


def build(kind: str, vectors: Vectors, folder: Path) -> None:
    count, dim = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
        index.add(vectors)
        faiss.write_index(index, str(folder / "flat"))
    elif kind == "ivf flat":
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
    elif kind == "usearch":
        index = USearchIndex(
            ndim=dim, metric="ip", dtype="f32", connectivity=GRAPH["links"], expansion_add=GRAPH["build"]
        )
        index.add(np.arange(count), vectors, threads=faiss.omp_get_max_threads())
        index.save(str(folder / "usearch"))
    elif kind == "hnswlib":
        index = hnswlib.Index(space="ip", dim=dim)
        index.init_index(max_elements=count, M=GRAPH["links"], ef_construction=GRAPH["build"])
        index.add_items(vectors, num_threads=faiss.omp_get_max_threads())
        index.save_index(str(folder / "hnswlib"))
    else:
        build_kind(kind, vectors).write(folder)


def load(kind: str, folder: Path, dim: int) -> Loaded:
    growing = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048]
    if kind == "flat":
        flat = faiss.read_index(str(folder / "flat"))
        return Loaded(lambda q, d, _: flat.search(zero_pad(q, d), K)[1], [None])
    if kind == "ivf flat":
        lists = faiss.read_index(str(folder / "ivf"))

        def search_lists(q: Vectors, d: int, effort: int | None) -> NDArray[np.int64]:
            return lists.search(zero_pad(q, d), K, params=faiss.SearchParametersIVF(nprobe=effort))[1]

        return Loaded(search_lists, growing)
    if kind == "usearch":
        graph = USearchIndex.restore(str(folder / "usearch"))

        def search_usearch(q: Vectors, d: int, effort: int | None) -> NDArray[np.int64]:
            graph.expansion_search = effort
            return graph.search(zero_pad(q, d), K, threads=faiss.omp_get_max_threads()).keys.reshape(len(q), -1)

        return Loaded(search_usearch, [e for e in growing if e >= K])
    if kind == "hnswlib":
        other = hnswlib.Index(space="ip", dim=dim)
        other.load_index(str(folder / "hnswlib"))

        def search_hnswlib(q: Vectors, d: int, effort: int | None) -> NDArray[np.int64]:
            other.set_ef(effort)
            return other.knn_query(zero_pad(q, d), K, num_threads=faiss.omp_get_max_threads())[0].astype(np.int64)

        return Loaded(search_hnswlib, [e for e in growing if e >= K])
    ours = read_kind(kind, folder)
    efforts = [None, *[e for e in growing if e <= ours.largest_effort]] if kind != "hnsw" else growing
    return Loaded(lambda q, d, effort: candidates_reranked(ours, q, d, effort), efforts)


def timed(search: Search, queries: Vectors, dimensions: int, effort: int | None) -> dict[str, float]:
    times = []
    for query in queries:
        started = time.perf_counter()
        search(query[None], dimensions, effort)
        times.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    search(queries, dimensions, effort)
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": p50, "p99_ms": p99, "batch_qps": len(queries) / (time.perf_counter() - started)}


def measure(
    kind: str, vectors: Vectors, queries: Vectors, truths: dict[int, NDArray[np.int64]]
) -> list[dict[str, Any]]:
    dim = vectors.shape[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind in COMPRESSED:
            np.save(folder / "vectors.npy", vectors)
        started = time.perf_counter()
        build(kind, np.load(folder / "vectors.npy", mmap_mode="r") if kind in COMPRESSED else vectors, folder)
        seconds = time.perf_counter() - started
        before = resident()
        loaded = load(kind, folder, dim)
        memory = (resident() - before) / vectors.nbytes
        rows = []
        for exact in sorted({effort is None for effort in loaded.efforts}, reverse=True):
            for dimensions, truth in truths.items() if exact else [(dim, truths[dim])]:
                effort, found = None, 1.0
                for effort in [None] if exact else [e for e in loaded.efforts if e is not None]:
                    found = recall(loaded.search(queries, dimensions, effort), truth)
                    if found >= WANTED:
                        break
                timing = timed(loaded.search, queries, dimensions, effort)
                facts = {"kind": kind, "exact": exact, "dimensions": dimensions, "effort": effort, "recall": found}
                rows.append({"count": len(vectors), **facts, "build_s": seconds, "memory": memory, **timing})
        return rows


def show(rows: list[dict[str, Any]]) -> None:
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


def plot(rows: list[dict[str, Any]], file: Path, dim: int) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(12, 4))
    names = dict.fromkeys((row["kind"], row["exact"]) for row in rows)
    for colour, name in zip(plt.get_cmap("tab20").colors, names, strict=False):
        some = [row for row in rows if (row["kind"], row["exact"]) == name and row["dimensions"] == dim]
        some.sort(key=lambda row: row["count"])
        for axis, field in zip(axes, ("p50_ms", "build_s"), strict=True):
            label = f"{name[0]}, exact" if name[1] else name[0]
            axis.loglog([row["count"] for row in some], [row[field] for row in some], "o-", label=label, color=colour)
            axis.set(xlabel="vectors", ylabel={"p50_ms": "one query, ms", "build_s": "build, s"}[field])
    axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--sketches", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 128, 64, 32, 16])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if bool(options.gallery) != bool(options.sketches):
        parser.error("--gallery and --sketches go together")
    faiss.omp_set_num_threads(options.threads)
    random = np.random.default_rng(0)
    if options.gallery:
        generation = load_generation(options.gallery)
        stored = np.concatenate([vectors for _, vectors in generation.blocks()])[:, : options.dim]
        queries = generation.order.apply(sketch_embeddings(options.gallery, options.sketches, options.queries, random))
        queries = np.ascontiguousarray(queries[:, : options.dim])
    else:
        queries = random_vectors(options.queries, random, options.dim)
    dim = queries.shape[1]
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    anew = {(count, kind) for count in options.counts for kind in options.kinds}
    rows: list[dict[str, Any]] = [row for row in kept if (row["count"], row["kind"]) not in anew]
    for count in options.counts:
        if options.gallery:
            vectors = resampled(stored, count, random, options.noise)
        else:
            vectors = random_vectors(count, random, options.dim)
        truths = {
            dimensions: faiss.knn(
                np.ascontiguousarray(truncate(queries, dimensions)),
                np.ascontiguousarray(truncate(vectors, dimensions)),
                K,
                metric=faiss.METRIC_INNER_PRODUCT,
            )[1]
            for dimensions in sorted({dim, *(d for d in options.dimensions if d < dim)}, reverse=True)
        }
        for kind in options.kinds:
            found = measure(kind, vectors, queries, truths)
            rows += found
            print(f"{count} {kind} done", flush=True)
    print(f"top {K}, {len(queries)} queries, {options.threads} thread(s); memory in copies of the vectors")
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.plot:
        plot(rows, options.plot, dim)


if __name__ == "__main__":
    main()
