"""Errors raised by the index package.

SvdrawError
└── IndexingError
    ├── SourceError        a list, table or folder of photos that cannot be read
    ├── PartsError         embeddings in Parquet files that cannot be read or written
    ├── DimensionsError    a number of dimensions that the gallery does not have (also a ValueError)
    ├── PageError          a page of results that cannot be returned (also a ValueError)
    ├── MetadataError      more metadata than was asked for at most (also a ValueError)
    ├── QueryTimeout       a question to the catalogue that took too long
    ├── FilterError        a filter on photos that is not valid (also a ValueError)
    └── GalleryError       a gallery that cannot be used
        ├── GalleryDamaged     files that are missing, half-written or corrupted
        ├── GalleryBusy        another process keeps the catalogue from being written
        ├── GalleryFull        the disk is full
        ├── GalleryLocked      another process is writing
        └── ModelMismatch      the gallery was built with another model
"""

from training.base.errors import SvdrawError

__all__ = [
    "DimensionsError",
    "FilterError",
    "GalleryBusy",
    "GalleryDamaged",
    "GalleryError",
    "GalleryFull",
    "GalleryLocked",
    "IndexingError",
    "MetadataError",
    "ModelMismatch",
    "PageError",
    "PartsError",
    "QueryTimeout",
    "SourceError",
]


class IndexingError(SvdrawError):
    """Base class of this package's errors."""


class SourceError(IndexingError):
    """A list, table or folder of photos that cannot be read."""


class PartsError(IndexingError):
    """Embeddings in Parquet files, the parts of a job, that cannot be read or written."""


class DimensionsError(IndexingError, ValueError):
    """The gallery does not have this number of dimensions.

    Attributes:
        dimensions: the number that was asked for.
        dim: the largest possible number.
    """

    def __init__(self, dimensions: int, dim: int) -> None:
        super().__init__(f"dimensions must be 1 to {dim}, not {dimensions}")
        self.dimensions = dimensions
        self.dim = dim


class PageError(IndexingError, ValueError):
    """A page of results that cannot be returned.

    Attributes:
        limit: the limit that was asked for.
        offset: the offset that was asked for.
        largest: the largest possible ``offset + limit``.
    """

    def __init__(self, limit: int, offset: int, largest: int) -> None:
        super().__init__(
            f"limit must be positive, offset not negative and offset + limit at most {largest}, "
            f"not limit {limit} and offset {offset}"
        )
        self.limit = limit
        self.offset = offset
        self.largest = largest


class MetadataError(IndexingError, ValueError):
    """The metadata of photos is larger than the caller takes.

    Attributes:
        most: the number of bytes that the caller takes.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"the metadata of these photos has more than {most} bytes")
        self.most = most


class FilterError(IndexingError, ValueError):
    """A filter on photos that is not valid."""


class QueryTimeout(IndexingError):  # noqa: N818 - says what is the matter
    """A question to the catalogue that took longer than it may."""


class GalleryError(IndexingError):
    """A gallery that cannot be used."""


class GalleryDamaged(GalleryError):  # noqa: N818 - says what is the matter
    """Files of a gallery are missing, half-written or corrupted."""


class GalleryBusy(GalleryError):  # noqa: N818
    """Another process keeps the catalogue from being written."""


class GalleryFull(GalleryError):  # noqa: N818
    """There is no room on the disk."""


class GalleryLocked(GalleryError):  # noqa: N818
    """Another process is writing to the gallery."""


class ModelMismatch(GalleryError):  # noqa: N818
    """The gallery was built with another model."""
