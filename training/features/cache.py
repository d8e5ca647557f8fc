"""A cache of feature vectors on disk, keyed by the content of images."""

import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureCache"]


class FeatureCache:
    """Feature vectors by key and content hash, in one SQLite file.

    Several processes may use the same cache at once, and a kill at any moment leaves it usable.

    Args:
        directory: folder of the file; it is made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
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
        query = "SELECT vector FROM features WHERE key = ? AND sha256 = ?"
        row = self._connection.execute(query, (key, sha256)).fetchone()
        return None if row is None or len(row[0]) % 4 else np.frombuffer(row[0], dtype="<f4")

    def put(self, key: str, sha256: bytes, vector: NDArray[np.float32]) -> None:
        """Stores a vector; it is kept once ``commit`` returns."""
        blob = vector.astype("<f4").tobytes()
        self._connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", (key, sha256, blob))

    def commit(self) -> None:
        """Makes every vector that was put durable."""
        self._connection.commit()

    def close(self) -> None:
        """Closes the file; what was not committed is dropped."""
        self._connection.close()
