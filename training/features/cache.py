"""A cache of feature vectors on disk, keyed by the content of images."""

import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureCache"]


class FeatureCache:
    """Feature vectors by key and content hash, in one SQLite file.

    Several processes may use the same cache at once, and a kill at any moment leaves it usable. Vectors wait in memory
    for ``commit``, so that no process keeps the others from writing while it computes.

    Args:
        directory: folder of the file; it is made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._waiting: dict[tuple[str, bytes], bytes] = {}
        self._connection = sqlite3.connect(directory / "features.sqlite", timeout=60)
        try:
            self._create()
        except sqlite3.Error:
            self._connection.close()
            raise

    def _create(self) -> None:
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS features (key TEXT, sha256 BLOB, vector BLOB, PRIMARY KEY (key, sha256))"
            " WITHOUT ROWID"
        )

    def get(self, key: str, sha256: bytes) -> NDArray[np.float32] | None:
        """The vector of a content under a key, or None if there is none, or none that is whole."""
        if (blob := self._waiting.get((key, sha256))) is not None:
            return np.frombuffer(blob, dtype="<f4")
        query = "SELECT vector FROM features WHERE key = ? AND sha256 = ?"
        row = self._connection.execute(query, (key, sha256)).fetchone()
        return None if row is None or len(row[0]) % 4 else np.frombuffer(row[0], dtype="<f4")

    def put(self, key: str, sha256: bytes, vector: NDArray[np.float32]) -> None:
        """Stores a vector; it is kept once ``commit`` returns."""
        self._waiting[key, sha256] = vector.astype("<f4").tobytes()

    def commit(self) -> None:
        """Makes every vector that was put durable."""
        rows = ((*place, blob) for place, blob in self._waiting.items())
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
        self._waiting.clear()

    def close(self) -> None:
        """Closes the file; what was not committed is dropped."""
        self._connection.close()
