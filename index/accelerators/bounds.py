"""Upper bounds of scores, from 8-bit codes: which vectors could score more than a given score, and no others.

A vector x is stored as integers from -127 to 127: its leading coordinates divided by a unit each and rounded, c, and
three norms, rounded up. A query q is turned into such integers as well: m, which are q_i unit_i times a factor f that
brings the largest of them near 127, rounded. What rounding takes away is e in the vector and r in the query. The
coordinates that follow the leading ones are two blocks, the middle and the rest. By the Cauchy-Schwarz inequality,

    f q.x  <=  m.c  +  |r| |c|  +  f |(q_i unit_i)| |e|  +  f |q_middle| |x_middle|  +  f |q_rest| |x_rest|

FAISS's scalar quantizer computes such sums of products of integers for all vectors, from a fraction of their bytes. A
query that is cut to its first d coordinates has zeros after them, and the same bound holds.
"""

from pathlib import Path
from typing import NamedTuple, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from index.accelerators.interface import FLOAT_NOISE
from index.accelerators.panorama import selector
from index.accelerators.rows import blocks
from training.base.stored_arrays import load_arrays

__all__ = ["UpperBounds"]

_LARGEST = 127
_NORMS = 3  # of two blocks of coordinates, and of the leading integers
_STEP = 16  # FAISS multiplies 16 integers at a time


class _Units(NamedTuple):
    """What turns integers into numbers.

    Attributes:
        leading: unit of every leading coordinate, ``(leading,)``.
        norms: units of the norms, ``(3,)``.
        error: the largest norm of what rounding takes from the leading coordinates of a vector, in units.
        longest: the largest norm of a vector.
    """

    leading: NDArray[np.float32]
    norms: NDArray[np.float32]
    error: NDArray[np.float32]
    longest: NDArray[np.float32]


class UpperBounds:
    """Integers of vectors, and their units.

    Args:
        codes: FAISS's index of the integers. It is a single list, because only lists are scanned by ``range_search``
            as quickly as by ``search``.
        units: the units of the integers.
    """

    def __init__(self, codes: faiss.IndexIVFScalarQuantizer, units: _Units) -> None:
        self.codes = codes
        self._units = units

    @classmethod
    def build(cls, vectors: NDArray[np.float32], width: int) -> Self:
        """Encodes ``(n, dim)`` finite vectors, which may be memory-mapped, as ``width`` integers or fewer."""
        leading = min(width - _NORMS, vectors.shape[1])
        units = _measured_units(vectors, leading)
        index = _empty_list(-(-(leading + _NORMS) // _STEP) * _STEP)
        for block in blocks(vectors):
            integers = np.zeros((len(block), index.d), np.float32)
            integers[:, :leading] = np.rint(block[:, :leading] / units.leading)
            norms = _norms(block, integers[:, :leading])
            integers[:, leading : leading + _NORMS] = np.ceil(norms / units.norms)
            index.add(integers)
        return cls(index, units)

    @property
    def leading(self) -> int:
        """Number of coordinates that are encoded; more of them enter the bounds by their norms only."""
        return len(self._units.leading)

    def best(self, query: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Finds the allowed vectors with the largest bounds for a query ``(dim,)``; at most ``count`` positions."""
        parameters = faiss.SearchParametersIVF(sel=selector(allowed))
        integers = self._integers(query)[0]
        positions: NDArray[np.int64] = self.codes.search(integers, max(1, count), params=parameters)[1][0]
        return positions[positions >= 0]

    def above(self, query: NDArray[np.float32], least: float, allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Finds all allowed vectors that may score ``least`` or more with a query ``(dim,)``; returns positions."""
        integers, factor, error = self._integers(query)
        noise = FLOAT_NOISE * float(np.linalg.norm(query) * self._units.longest)
        parameters = faiss.SearchParametersIVF(sel=selector(allowed))
        radius = max(factor * (least - noise) - error - 1, -np.finfo(np.float32).max)  # FAISS leaves out equal ones
        return np.asarray(self.codes.range_search(integers, radius, params=parameters)[2])

    def write(self, folder: Path, name: str) -> None:
        """Writes the integers and units into two files of a folder, whose names begin with ``name``.

        Raises:
            OSError: if a file cannot be written, for example on a full disk.
            RuntimeError: the same, from FAISS.
        """
        faiss.write_index(self.codes, str(folder / f"{name}.faiss"))
        np.savez(folder / f"{name}.npz", **self._units._asdict())

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Reads what ``write`` wrote."""
        return cls(faiss.read_index(str(folder / f"{name}.faiss")), _Units(**load_arrays(folder / f"{name}.npz")))

    def _integers(self, query: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
        """A query's integers ``(1, columns)``, their factor, and the part of the bound that all vectors share."""
        leading = self.leading
        scaled = query[:leading] * self._units.leading
        norms = np.array(_block_norms(query[None], leading))[:, 0] * self._units.norms[:-1]
        largest = max(float(np.abs(scaled).max()), float(norms.max()))
        factor = (_LARGEST - 1) / largest if largest > 0 else 1.0
        found = np.zeros((1, self.codes.d), np.float32)
        found[0, :leading] = np.rint(factor * scaled)
        rounded = float(np.linalg.norm(factor * scaled - found[0, :leading]))
        found[0, leading : leading + _NORMS] = np.ceil([*(factor * norms), rounded * self._units.norms[-1]])
        return found, factor, factor * float(np.linalg.norm(scaled) * self._units.error)


def _empty_list(columns: int) -> faiss.IndexIVFScalarQuantizer:
    quantizer = faiss.IndexFlatIP(columns)
    quantizer.add(np.zeros((1, columns), np.float32))
    code = faiss.ScalarQuantizer.QT_8bit_direct_signed
    index = faiss.IndexIVFScalarQuantizer(quantizer, columns, 1, code, faiss.METRIC_INNER_PRODUCT, False)
    quantizer.this.disown()
    index.own_fields = True
    index.train(np.zeros((1, columns), np.float32))
    return index


def _measured_units(vectors: NDArray[np.float32], leading: int) -> _Units:
    """Units with which the largest value becomes the largest integer."""
    largest = np.zeros(leading, np.float32)
    for block in blocks(vectors):
        largest = np.maximum(largest, np.abs(block[:, :leading]).max(axis=0))
    units = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    norms, error, longest = np.zeros(_NORMS, np.float32), np.float32(0), np.float32(0)
    for block in blocks(vectors):
        scaled = block[:, :leading] / units
        integers = np.rint(scaled)
        norms = np.maximum(norms, _norms(block, integers).max(axis=0))
        error = max(error, np.linalg.norm(scaled - integers, axis=1).max())
        longest = max(longest, np.linalg.norm(block, axis=1).max())
    norms = np.where(norms > 0, norms * (1 + FLOAT_NOISE) / _LARGEST, 1).astype(np.float32)
    return _Units(units, norms, np.array(error, np.float32), np.array(longest, np.float32))


def _norms(vectors: NDArray[np.float32], integers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The norms that a vector's integers contain, ``(n, 3)``."""
    return np.stack([*_block_norms(vectors, integers.shape[1]), np.linalg.norm(integers, axis=1)], axis=1)


def _block_norms(vectors: NDArray[np.float32], leading: int) -> list[NDArray[np.float32]]:
    """Norms of the two blocks of coordinates after the leading ones, each ``(n,)``."""
    return [np.linalg.norm(block, axis=1) for block in (vectors[:, leading : 2 * leading], vectors[:, 2 * leading :])]
