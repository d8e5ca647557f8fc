"""Errors raised by the training package.

SvdrawError
├── TrainingError
│   ├── DataError          a data set that cannot be trained on or evaluated
│   │   └── SplitError     a split that does not fit the data set
│   ├── ImageError         one image that cannot be used
│   │   ├── ImageTooLarge   more pixels than the limit
│   │   └── ImageTooCostly  more work to decode than any picture is worth
│   ├── BackboneError      an unknown backbone, or weights that cannot be had
│   ├── CheckpointError    a run that cannot be resumed
│   ├── DivergenceError    a training whose loss or parameters are no longer finite
│   └── BundleError        a model bundle that is missing, damaged or of another version

``SvdrawError`` is the root for every package: entry points turn it into one line and an exit status.
"""

__all__ = [
    "BackboneError",
    "BundleError",
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "ImageError",
    "ImageTooCostly",
    "ImageTooLarge",
    "SplitError",
    "SvdrawError",
    "TrainingError",
]


class SvdrawError(Exception):
    """Something the user can put right; its text says what happened and what to do."""


class TrainingError(SvdrawError):
    """Root of this package's errors."""


class DataError(TrainingError):
    """A data set that cannot be trained on or evaluated."""


class SplitError(DataError):
    """A class split that does not fit the data set."""


class ImageError(TrainingError):
    """One image that cannot be used.

    Attributes:
        reason: why, in a few words that hold no path.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ImageTooLarge(ImageError):  # noqa: N818 - says what is the matter
    """An image with more pixels than the limit."""


class ImageTooCostly(ImageError):  # noqa: N818
    """An image made so that decoding it takes far more work than its size lets expect."""


class BackboneError(TrainingError):
    """An unknown backbone, or pretrained weights that cannot be had."""


class CheckpointError(TrainingError):
    """A training run that cannot be resumed."""


class DivergenceError(TrainingError):
    """A training whose loss, gradient or parameters are no longer finite numbers."""


class BundleError(TrainingError):
    """A model bundle that is missing, damaged or of another version."""
