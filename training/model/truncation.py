"""The one definition of a truncated embedding."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["truncate", "zero_pad"]


def truncate(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Keeps the ``dimensions`` most significant coordinates; never re-normalises.

    Args:
        embeddings: ``(n, dim)``, coordinates ordered by singular value.
        dimensions: how many to keep, 1 to ``dim``.

    Returns:
        A view of shape ``(n, dimensions)``.

    Raises:
        ValueError: if ``dimensions`` is outside 1 to ``dim``.
    """
    if not 1 <= dimensions <= embeddings.shape[1]:
        raise ValueError(f"dimensions must be 1 to {embeddings.shape[1]}, not {dimensions}")
    return embeddings[:, :dimensions]


def zero_pad(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Truncates to ``dimensions`` coordinates and fills the others with zeros.

    An inner product with a full vector is then that of the truncated pair, so one index of full vectors
    serves every ``dimensions``.

    Args:
        embeddings: ``(n, dim)``.
        dimensions: how many to keep, 1 to ``dim``.

    Returns:
        A new C-contiguous array ``(n, dim)``.

    Raises:
        ValueError: if ``dimensions`` is outside 1 to ``dim``.
    """
    padded = np.zeros(embeddings.shape, dtype=np.float32)
    padded[:, :dimensions] = truncate(embeddings, dimensions)
    return padded
