"""Exact search on a GPU, over a matrix that stores the vectors dimension by dimension."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from training.model.truncation import truncate

__all__ = ["DimensionMajorMatrix"]

_MAX_SCORES = 1 << 26  # scores computed at once, as floats
_QUERIES = 256  # that read the matrix together
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
        prefix = torch.from_numpy(np.ascontiguousarray(truncate(queries, dimensions)))
        excluded = None if allowed is None else torch.from_numpy(~allowed).to(self.matrix.device)
        best = [self._best(part, k, dimensions, excluded) for part in torch.split(prefix, _QUERIES)]
        scores = torch.cat([part[0] for part in best])
        positions = torch.cat([part[1] for part in best]).masked_fill(scores.isneginf(), -1)
        missing = (0, k - scores.shape[1])
        scores, positions = pad(scores, missing, value=-torch.inf), pad(positions, missing, value=-1)
        return scores.cpu().numpy(), positions.cpu().numpy()

    def _best(
        self, queries: torch.Tensor, k: int, dimensions: int, excluded: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and positions ``(n, k)`` of the best, fewer if there are fewer, after reading the matrix once."""
        matrix = self.matrix[:dimensions]
        queries, found = queries.to(matrix), []
        width = max(1, _MAX_SCORES // max(1, len(queries)))
        for start in range(0, max(1, matrix.shape[1]), width):
            block = slice(start, start + width)
            scores = (queries @ matrix[:, block]).float()
            if excluded is not None:
                scores.masked_fill_(excluded[block], -torch.inf)
            values, positions = scores.topk(min(k, scores.shape[1]), dim=1)
            found.append((values, positions + start))
        scores, positions = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        values, places = scores.topk(min(k, scores.shape[1]), dim=1)
        return values, positions.gather(1, places)

    def gather(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``Accelerator.gather``."""
        if self.originals is not None:
            return self.originals[positions]
        columns = torch.from_numpy(positions).to(self.matrix.device)
        values: NDArray[np.float32] = self.matrix[:, columns].T.cpu().numpy()
        return values


def _longest(vectors: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(vectors, dim=1).max())
