"""Errors raised by the index package.

SvdrawError
└── IndexingError
    ├── SourceError        a list, table or folder of photos that cannot be read
    ├── DimensionsError    a number of dimensions the gallery does not have (also a ValueError)
    ├── FilterError        a filter that makes no sense (also a ValueError)
    └── GalleryError       a gallery that cannot be used as asked
        ├── GalleryDamaged     files that are missing, half-written or corrupted
        ├── GalleryLocked      another process is writing
        └── ModelMismatch      the gallery was built with another model
"""

from training.base.errors import SvdrawError

__all__ = [
    "DimensionsError",
    "FilterError",
    "GalleryDamaged",
    "GalleryError",
    "GalleryLocked",
    "IndexingError",
    "ModelMismatch",
    "SourceError",
]


class IndexingError(SvdrawError):
    """Root of this package's errors."""


class SourceError(IndexingError):
    """A list, table or folder of photos that cannot be read."""


class DimensionsError(IndexingError, ValueError):
    """A number of dimensions the gallery does not have.

    Attributes:
        dimensions: what was asked for.
        dim: the largest that is possible.
    """

    def __init__(self, dimensions: int, dim: int) -> None:
        super().__init__(f"dimensions must be 1 to {dim}, not {dimensions}")
        self.dimensions = dimensions
        self.dim = dim


class FilterError(IndexingError, ValueError):
    """A filter on photos that makes no sense."""


class GalleryError(IndexingError):
    """A gallery that cannot be used as asked."""


class GalleryDamaged(GalleryError):  # noqa: N818 - says what is the matter
    """Files of a gallery are missing, half-written or corrupted."""


class GalleryLocked(GalleryError):  # noqa: N818
    """Another process is writing to the gallery."""


class ModelMismatch(GalleryError):  # noqa: N818
    """The gallery was built with another model."""
