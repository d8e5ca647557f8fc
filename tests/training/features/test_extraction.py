import multiprocessing
from pathlib import Path

import numpy as np

from training.features.extraction import FeatureCache

RUNS, CACHES = 8, 100


def fill(directory: Path, number: int) -> None:
    store = FeatureCache(directory)
    store.put("key", bytes([number]), np.full(3, number, np.float32))
    store.commit()
    store.close()


def test_a_new_cache_may_be_filled_by_several_runs_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(RUNS) as pool:
        for cache in range(CACHES):
            directory = tmp_path / str(cache)
            pool.starmap(fill, [(directory, number) for number in range(RUNS)], chunksize=1)
            store = FeatureCache(directory)
            assert all(store.get("key", bytes([number])) is not None for number in range(RUNS))
            store.close()
