"""Exact search on a GPU, over a matrix that stores the vectors dimension by dimension."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from training.model.truncation import truncate

__all__ = ["DimensionMajorMatrix"]

_MAX_SCORES = 1 << 26  # scores computed at once, as floats
_BLOCK = 1 << 16  # vectors that go to the device at once


class DimensionMajorMatrix:
    """Vectors stored as a ``(dim, n)`` matrix on a device, so that any prefix of the coordinates is a contiguous block.

    Args:
        vectors: the vectors, ``(n, dim)``.
        device: the device that searches, normally a GPU.
        half: keep 16 bits per coordinate on the device. ``vectors`` stay in main memory, for exact scores.
    """

    largest_effort = 0

    def __init__(self, vectors: NDArray[np.float32], device: torch.device, *, half: bool = False) -> None:
        count, dim = vectors.shape
        self.originals = vectors if half else None
        self.matrix = torch.empty(dim, count, dtype=torch.float16 if half else torch.float32, device=device)
        longest = largest = 0.0
        for start in range(0, count, _BLOCK):  # the device holds no second copy of all of them
            block = torch.from_numpy(np.require(vectors[start : start + _BLOCK], requirements="W")).to(device)
            self.matrix[:, start : start + _BLOCK] = block.T
            if half:
                longest = max(longest, _longest(block))
                largest = max(largest, _longest(block - self.matrix[:, start : start + _BLOCK].T))
        # The largest error of a score for a query of norm 1, when vectors, query and scores are rounded to 16 bits.
        self.error = largest + 2.0**-10 * longest

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        dimensions: int,
        *,
        effort: int | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See ``Accelerator.search``."""
        prefix = np.ascontiguousarray(truncate(queries, dimensions))
        rows = max(1, _MAX_SCORES // max(1, self.matrix.shape[1]))
        mask = None if allowed is None else torch.from_numpy(~allowed).to(self.matrix.device)
        wanted = min(k, self.matrix.shape[1])
        parts = []
        for start in range(0, len(prefix), rows):
            scores = self._scores(torch.from_numpy(prefix[start : start + rows]), dimensions)
            parts.append((scores if mask is None else scores.masked_fill(mask, -torch.inf)).topk(wanted, dim=1))
        scores = torch.cat([part.values for part in parts])
        positions = torch.cat([part.indices for part in parts]).masked_fill(scores.isneginf(), -1)
        missing = (0, k - wanted)
        scores, positions = pad(scores, missing, value=-torch.inf), pad(positions, missing, value=-1)
        return scores.cpu().numpy(), positions.cpu().numpy()

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        if self.originals is not None:
            return self.originals[positions]
        columns = torch.from_numpy(positions).to(self.matrix.device)
        values: NDArray[np.float32] = self.matrix[:, columns].T.cpu().numpy()
        return values

    def _scores(self, queries: torch.Tensor, dimensions: int) -> torch.Tensor:
        matrix = self.matrix[:dimensions]
        return (queries.to(matrix) @ matrix).float()


def _longest(vectors: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(vectors, dim=1).max())
