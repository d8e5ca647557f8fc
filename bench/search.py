"""Exact search over one copy of truncatable vectors, against FAISS's flat index, in one run on the same threads.

    python bench/search.py [--gallery GALLERY --sketches DIR] [--count 200000] [--queries 200] [--threads 1]

With --gallery, its real embeddings are scaled up by resampling with a little noise, and the images below --sketches,
embedded by the gallery's sketch encoder, are the queries. Without, vectors and queries are random with a spectrum that
decays like 1 / sqrt(mode). Ratios hold within a run only.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators import PanoramaIndex
from index.gallery import load_generation
from training.bundle import load_bundle
from training.images import IMAGE_SUFFIXES, open_image
from training.truncation import truncate

K = 10


def random_vectors(count: int, random: np.random.Generator) -> NDArray[np.float32]:
    return (random.normal(size=(count, 256)) / np.sqrt(np.arange(1, 257))).astype(np.float32)


def resampled(
    vectors: NDArray[np.float32], count: int, random: np.random.Generator, noise: float = 0.05
) -> NDArray[np.float32]:
    chosen = vectors[random.integers(len(vectors), size=count)]
    return chosen + (noise * vectors.std(axis=0) * random.standard_normal(chosen.shape, dtype=np.float32)).astype(
        np.float32
    )


def sketch_embeddings(gallery: Path, folder: Path, count: int, random: np.random.Generator) -> NDArray[np.float32]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    chosen = random.choice(len(files), min(count, len(files)), replace=False)
    return load_bundle(gallery / "model", "cpu").encode_sketches([open_image(files[i]) for i in chosen])


def milliseconds(search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    times = []
    for query in queries:
        started = time.perf_counter()
        search(query[None])
        times.append(1000 * (time.perf_counter() - started))
    return np.array(times)


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    hits = [len(set(row) & set(truth)) for row, truth in zip(found.tolist(), exact.tolist(), strict=True)]
    return sum(hits) / exact.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--sketches", type=Path)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if bool(options.gallery) != bool(options.sketches):
        parser.error("--gallery and --sketches go together")
    faiss.omp_set_num_threads(options.threads)
    random = np.random.default_rng(0)
    if options.gallery:
        vectors = resampled(load_generation(options.gallery).accelerator.vectors(), options.count, random)
        queries = sketch_embeddings(options.gallery, options.sketches, options.queries, random)
    else:
        vectors, queries = (random_vectors(count, random) for count in (options.count, options.queries))
    dim = vectors.shape[1]
    flat = faiss.IndexFlatIP(dim)
    flat.add(vectors)
    ours = PanoramaIndex.build(vectors)
    baseline = milliseconds(lambda query: flat.search(query, K), queries)
    rows = [{"index": "IndexFlatIP", "dimensions": dim, "p50_ms": np.median(baseline), "speedup": 1.0, "recall": 1.0}]
    for dimensions in sorted({*(2**power for power in range(3, 12) if 2**power < dim), dim}):
        exact = faiss.knn(
            np.ascontiguousarray(truncate(queries, dimensions)),
            np.ascontiguousarray(truncate(vectors, dimensions)),
            K,
            metric=faiss.METRIC_INNER_PRODUCT,
        )[1]
        times = milliseconds(lambda query, d=dimensions: ours.search(query, K, d), queries)
        rows.append(
            {
                "index": "svdraw exact",
                "dimensions": dimensions,
                "p50_ms": np.median(times),
                "speedup": np.median(baseline) / np.median(times),
                "recall": recall(ours.search(queries, K, dimensions)[1], exact),
            }
        )
    print(f"{options.count} vectors of {dim} dimensions, top {K}, {options.threads} thread(s)")
    print(f"{'index':<14}{'dimensions':>11}{'p50 ms':>9}{'speed-up':>10}{'recall':>8}")
    for row in rows:
        print("{index:<14}{dimensions:>11}{p50_ms:>9.2f}{speedup:>10.2f}{recall:>8.3f}".format(**row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
