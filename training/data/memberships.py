"""Which classes the files of a data set are of, whatever its groups are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.data.instances import own_photos
from training.data.pairs import PairedData

__all__ = ["Memberships", "class_memberships", "depicted_photos"]


class Memberships(NamedTuple):
    """The classes of the files, each row with a one for each class.

    Attributes:
        sketches: ``(sketches, classes)``.
        photos: ``(photos, classes)``.
    """

    sketches: csr_array
    photos: csr_array


def class_memberships(data: PairedData) -> Memberships:
    """Finds the classes of all files: those of the labels of the groups that they are in.

    Args:
        data: sketches, photos and their groups.
    """
    numbers = {label: number for number, label in enumerate(data.classes)}
    labels = [numbers[group.label] for group in data.groups]
    return Memberships(
        _members([group.sketches for group in data.groups], labels, (len(data.sketches), len(numbers))),
        _members([group.photos for group in data.groups], labels, (len(data.photos), len(numbers))),
    )


def depicted_photos(data: PairedData) -> NDArray[np.int64]:
    """The photo that each sketch depicts: by its name, or because it is in a group with that photo alone.

    Returns:
        ``(sketches,)`` positions of photos; -1 where no photo of the data is known to be depicted.
    """
    photos = own_photos(data)
    for group in data.groups:
        if len(group.photos) == 1:
            rows = np.asarray(group.sketches)
            photos[rows[photos[rows] < 0]] = group.photos[0]
    return photos


def _members(files: Sequence[Sequence[int]], labels: Sequence[int], shape: tuple[int, int]) -> csr_array:
    rows = np.concatenate([np.asarray(each, dtype=np.int64) for each in files])
    columns = np.repeat(labels, [len(each) for each in files])
    found = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    found.data[:] = 1  # a file may be in several groups of one class
    return found
