"""Paired data: sketches, photos and the groups that tie them.

A group is the latent cause that a sketch and a photo have in common. Given the group, sketch and photo are independent,
so p(x, y) = sum_g p(g) p(x|g) p(y|g). In folders a group is a class; in a pairs table it is one row.
"""

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.base.errors import DataError
from training.base.tables import TABLE_SUFFIXES, as_text, open_table, parse_number
from training.data.pairing import NO_INSTANCES, ClassFiles, InstancePairs, Pairing, pairs_by_name
from training.data.published import has_lists, image_folders, listed_files
from training.model.images import IMAGE_SUFFIXES, image_files

__all__ = ["Group", "PairedData", "load_data", "scan_folders", "scan_lists", "scan_table"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Group:
    """Sketches and photos that belong together: those of one class, of one instance, or of one row of a table.

    Attributes:
        label: name of the class.
        sketches: positions of the sketches in ``PairedData.sketches``.
        photos: positions of the photos in ``PairedData.photos``.
        weight: probability p(g) of the group, up to a factor common to all groups.
    """

    label: str
    sketches: tuple[int, ...]
    photos: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class PairedData:
    """Files of both modalities and how they belong together.

    Attributes:
        sketches: files of the sketches.
        photos: files of the photos.
        groups: the groups that tie sketches and photos.
        instances: which photo each sketch depicts, where the data says so. Where this is part of a data set, these are
            the pairs of the whole.
    """

    sketches: tuple[Path, ...]
    photos: tuple[Path, ...]
    groups: tuple[Group, ...]
    instances: InstancePairs = NO_INSTANCES

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(sorted({group.label for group in self.groups}))

    @property
    def weights(self) -> NDArray[np.float64]:
        """The probability p(g) of each group, ``(groups,)``."""
        weights = np.array([group.weight for group in self.groups], dtype=np.float64)
        weights /= weights.sum()
        return weights

    def sketch_incidence(self) -> csr_array:
        """The probabilities p(x|g), ``(groups, sketches)``; each row sums to one."""
        return _incidence([group.sketches for group in self.groups], len(self.sketches))

    def photo_incidence(self) -> csr_array:
        """The probabilities p(y|g), ``(groups, photos)``; each row sums to one."""
        return _incidence([group.photos for group in self.groups], len(self.photos))

    def select(self, classes: Collection[str]) -> "PairedData":
        """The part of the data that belongs to the given classes; files that no group uses are dropped."""
        wanted = frozenset(classes)
        return _compact(replace(self, groups=tuple(g for g in self.groups if g.label in wanted)))

    def without(self, sketches: Collection[int], photos: Collection[int]) -> "PairedData":
        """Leaves out unusable files, and groups that have no sketch or no photo left.

        Args:
            sketches: positions of unusable sketches.
            photos: positions of unusable photos.

        Raises:
            DataError: if no group remains.
        """
        kept, lost = [], []
        for group in self.groups:
            left = tuple(i for i in group.sketches if i not in sketches)
            right = tuple(i for i in group.photos if i not in photos)
            if left and right:
                kept.append(replace(group, sketches=left, photos=right))
            else:
                lost.append(group)
        if not kept:
            raise DataError("no sketch and photo that belong together are usable; see the rejected files")
        if lost:
            text = "%d of %d groups have no usable sketch or photo left and are skipped, one of %s among them"
            logger.warning(text, len(lost), len(self.groups), lost[0].label)
        return _compact(replace(self, groups=tuple(kept)))


def load_data(path: Path, pairing: Pairing = "auto") -> PairedData:
    """Reads ``sketch/<class>/*`` and ``photo/<class>/*`` folders, a published data set, or a pairs table.

    Args:
        path: the folder that holds ``sketch`` and ``photo``, a folder of a published data set or of its file lists (see
            ``published``), or the table (.csv, .parquet).
        pairing: how instance pairs are found in folders; see ``pairs_by_name``. The rows of a pairs table are instance
            pairs unless it is ``none``.

    Raises:
        DataError: if there is nothing there to train on; the message says what to change.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        data = scan_table(path, pairing)
    else:
        data = scan_lists(path, pairing) if has_lists(path) else scan_folders(path, pairing)
    if len(data.groups) < 2:
        raise DataError(f"{path} has one class only ({data.groups[0].label}); at least two are needed")
    return data


def scan_folders(root: Path, pairing: Pairing = "auto") -> PairedData:
    """Reads ``root/sketch/<class>/*`` and ``root/photo/<class>/*``; subfolders of a class are searched.

    Args:
        root: holds the folders ``sketch`` and ``photo``, or those of a published data set; see ``published``.
        pairing: how instance pairs are found; see ``pairs_by_name``.

    Raises:
        DataError: if a folder is missing, a class is empty or stands on one side only.
    """
    folders = image_folders(root)
    sides = [_class_files(folder) for folder in folders]
    if unmatched := sorted(sides[0].keys() ^ sides[1].keys()):
        has, lacks = folders if unmatched[0] in sides[0] else reversed(folders)
        raise DataError(
            f"{len(unmatched)} classes stand on one side only: {unmatched[0]!r} is in {has} but not in "
            f"{lacks}; add the missing folder or remove the other"
        )
    return _paired(sides[0], sides[1], pairing)


def scan_lists(folder: Path, pairing: Pairing = "auto") -> PairedData:
    """Reads the files that a published split lists, of its seen and its unseen classes; see ``published``.

    Args:
        folder: holds the lists; the paths in them are relative to the folder above.
        pairing: how instance pairs are found; see ``pairs_by_name``.

    Raises:
        DataError: if a list is missing or damaged, or a class stands on one side only.
    """
    sides = listed_files(folder)
    if unmatched := sorted(sides[0].keys() ^ sides[1].keys()):
        raise DataError(f"the lists in {folder} have {unmatched[0]!r} as a class of sketches or of photos only")
    return _paired(sides[0], sides[1], pairing)


def _paired(sketch: Mapping[str, Sequence[Path]], photo: Mapping[str, Sequence[Path]], pairing: Pairing) -> PairedData:
    """Data of files by class, the same classes on both sides."""
    sides = (sketch, photo)
    files: list[list[Path]] = [[], []]
    groups = []
    for label in sorted(sides[0]):
        sketches, photos = (
            tuple(range(len(members), len(members) + len(side[label])))
            for side, members in zip(sides, files, strict=True)
        )
        groups.append(Group(label, sketches, photos))
        for side, members in zip(sides, files, strict=True):
            members.extend(side[label])
    classes = [ClassFiles(label, sides[0][label], sides[1][label]) for label in sorted(sides[0])]
    return PairedData(tuple(files[0]), tuple(files[1]), tuple(groups), pairs_by_name(classes, pairing))


def scan_table(path: Path, pairing: Pairing = "auto") -> PairedData:
    """Reads a CSV or Parquet table with columns ``sketch``, ``photo`` and optionally ``weight`` and ``class``.

    Relative paths are taken from the table's folder. Without ``class`` every photo is a class of its own. A sketch that
    stands beside one photo only depicts that photo.

    Args:
        path: the table.
        pairing: ``none`` to take no row for an instance pair.

    Raises:
        DataError: if the table cannot be read, lacks a column, is empty or holds a bad weight.
    """
    rows = _read_rows(path)
    sketches = {name: path.parent / name for name in sorted({row.sketch for row in rows})}
    photos = {name: path.parent / name for name in sorted({row.photo for row in rows})}
    # Of a million rows, so that what is equal is held once.
    places = [{name: (position,) for position, name in enumerate(side)} for side in (sketches, photos)]
    groups = tuple(
        Group(row.label or row.photo, places[0][row.sketch], places[1][row.photo], row.weight) for row in rows
    )
    return PairedData(
        tuple(sketches.values()), tuple(photos.values()), groups, _instances(rows, sketches, photos, pairing)
    )


class _Row(NamedTuple):
    sketch: str
    photo: str
    label: str | None
    weight: float


def _read_rows(path: Path) -> list[_Row]:
    with open_table(path) as table:
        for name in ("sketch", "photo"):
            if name not in table.columns:
                columns = ", ".join(repr(column) for column in table.columns)
                raise DataError(f"{path} has no column {name!r}; its columns are {columns}")
        rows = [_row(f"{path}, row {number}", cells) for number, cells in table.rows]
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def _row(place: str, cells: Mapping[str, Any]) -> _Row:
    texts = {}
    for name in ("sketch", "photo", "class"):
        try:
            texts[name] = as_text(cells.get(name, ""))
        except ValueError as error:
            raise DataError(f"{place}: {name}: {error}") from error
        if "\0" in texts[name]:
            raise DataError(f"{place}: {name}: holds a NUL character")
        if not texts[name] and name != "class":
            raise DataError(f"{place}: {name}: empty; every row needs a path there")
    try:
        weight = parse_number(cells.get("weight", 1.0))
    except ValueError as error:
        raise DataError(f"{place}: weight: {error}") from error
    if weight <= 0:
        raise DataError(f"{place}: weight: {weight:g} is not greater than 0; remove the row or give a positive weight")
    return _Row(texts["sketch"], texts["photo"], sys.intern(texts["class"]) or None, weight)


def _instances(
    rows: Sequence[_Row], sketches: Mapping[str, Path], photos: Mapping[str, Path], pairing: Pairing
) -> InstancePairs:
    if pairing == "none":
        return pairs_by_name([], "none")
    drawn: dict[str, str | None] = {}
    for row in rows:
        drawn[row.sketch] = row.photo if drawn.get(row.sketch, row.photo) == row.photo else None
    pairs = {sketches[sketch]: photos[photo] for sketch, photo in drawn.items() if photo}
    return InstancePairs(pairs, "by the rows of the pairs table")


def _class_files(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; --data needs sketch/<class>/* and photo/<class>/* below it, or a pairs table"
        )
    classes = {
        entry.name: image_files(entry)
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    if not classes:
        raise DataError(f"{folder} holds no class folders")
    if strange := [name for name in classes if name.encode(errors="ignore").decode() != name]:
        raise DataError(f"{folder} holds a class folder whose name is not UTF-8, {strange[0]!r}; rename it")
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(
            f"{len(empty)} classes are empty: {folder / empty[0]} holds no image "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}); add some or remove the folder"
        )
    return classes


def _incidence(members: Sequence[tuple[int, ...]], count: int) -> csr_array:
    counts = np.array([len(member) for member in members])
    rows = np.repeat(np.arange(len(members)), counts)
    columns = np.concatenate([np.asarray(member) for member in members])
    return csr_array((1.0 / np.repeat(counts, counts), (rows, columns)), shape=(len(members), count))


def _compact(data: PairedData) -> PairedData:
    """Drops files that no group refers to and renumbers the others."""
    sketches = sorted({i for group in data.groups for i in group.sketches})
    photos = sorted({i for group in data.groups for i in group.photos})
    new_sketch = {old: new for new, old in enumerate(sketches)}
    new_photo = {old: new for new, old in enumerate(photos)}
    groups = tuple(
        replace(
            group,
            sketches=tuple(new_sketch[i] for i in group.sketches),
            photos=tuple(new_photo[i] for i in group.photos),
        )
        for group in data.groups
    )
    return replace(
        data,
        sketches=tuple(data.sketches[i] for i in sketches),
        photos=tuple(data.photos[i] for i in photos),
        groups=groups,
    )
