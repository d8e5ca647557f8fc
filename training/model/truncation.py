"""The one definition of a truncated embedding."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["truncate", "zero_pad"]


def truncate(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Keeps the most significant coordinates of embeddings, without normalising them again.

    Args:
        embeddings: ``(n, dim)``, coordinates ordered by singular value.
        dimensions: number of coordinates to keep, 1 to ``dim``.

    Returns:
        A view of shape ``(n, dimensions)``.

    Raises:
        ValueError: if ``dimensions`` is outside 1 to ``dim``.

    Example:
        >>> truncate(np.array([[3.0, 2.0, 1.0]], np.float32), 2)
        array([[3., 2.]], dtype=float32)
    """
    if not 1 <= dimensions <= embeddings.shape[1]:
        raise ValueError(f"dimensions must be 1 to {embeddings.shape[1]}, not {dimensions}")
    return embeddings[:, :dimensions]


def zero_pad(embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Keeps the most significant coordinates of embeddings and sets the others to zero.

    The inner product with a full vector is then that of the two truncated vectors, so one index of full vectors serves
    every number of dimensions.

    Args:
        embeddings: ``(n, dim)``, coordinates ordered by singular value.
        dimensions: number of coordinates to keep, 1 to ``dim``.

    Returns:
        A new C-contiguous array ``(n, dim)``.

    Raises:
        ValueError: if ``dimensions`` is outside 1 to ``dim``.
    """
    padded = np.zeros(embeddings.shape, dtype=np.float32)
    padded[:, :dimensions] = truncate(embeddings, dimensions)
    return padded
