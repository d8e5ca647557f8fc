"""Groups below the level of classes: instance pairs, and line drawings with the photo they were made from.

A class-level model p(x, y) = sum_c p(c) p(x|c) p(y|c) has no more modes than classes. Mixed with one group for every
photo that sketches are known to depict, the operator gains a mode for each of them: what makes one castle unlike
another is then learned too, and serves classes that were never seen.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.pairs import Group, PairedData
from training.data.photo_pairs import draw_outlines

__all__ = ["DRAWINGS", "own_photos", "with_instances", "with_line_drawings"]

DRAWINGS = "line-drawings-3"  # folder of a cache; another way of drawing or of naming needs another name


def with_instances(data: PairedData, share: float) -> PairedData:
    """Mixes in a group for every photo and the sketches that depict it; without instance pairs nothing changes.

    Groups of a single photo, as in a pairs table, are instance pairs already and get no second group.

    Args:
        data: sketches, photos and their groups.
        share: share of the probability, between 0 and 1, that the new groups get together.
    """
    photos_of = own_photos(data)
    own = []
    for group in (group for group in data.groups if len(group.photos) > 1):
        drawn: dict[int, list[int]] = defaultdict(list)
        members = frozenset(group.photos)
        for sketch in group.sketches:
            if (photo := int(photos_of[sketch])) in members:
                drawn[photo].append(sketch)
        own += [Group(group.label, tuple(rows), (photo,)) for photo, rows in sorted(drawn.items())]
    return _mixed(data, own, share)


def own_photos(data: PairedData) -> NDArray[np.int64]:
    """The photo that each sketch depicts, as far as the data says so.

    Returns:
        ``(sketches,)`` positions of photos; -1 where no photo of the data is known to be depicted.
    """
    positions = {photo: row for row, photo in enumerate(data.photos)}
    pairs = data.instances.photos
    return np.array([positions.get(pairs[file], -1) if file in pairs else -1 for file in data.sketches], dtype=np.int64)


def with_line_drawings(data: PairedData, share: float, folder: Path, *, drawings: int = 2) -> PairedData:
    """Mixes in a group for every photo and line drawings made from it; photos that cannot be read get none.

    Args:
        data: sketches, photos and their groups.
        share: share of the probability, between 0 and 1, that the new groups get together; 0 draws nothing.
        folder: folder where the drawings are kept.
        drawings: number of drawings of each photo.
    """
    if share == 0:
        return data
    drawn, _ = draw_outlines(data.photos, folder, drawings)
    labels = {photo: group.label for group in data.groups for photo in group.photos}
    sketches, own = list(data.sketches), []
    for photo, label in sorted(labels.items()):
        if files := drawn.get(data.photos[photo]):
            rows = range(len(sketches), len(sketches) + len(files))
            sketches += files
            own.append(Group(label, tuple(rows), (photo,)))
    return _mixed(replace(data, sketches=tuple(sketches)), own, share)


def _mixed(data: PairedData, own: list[Group], share: float) -> PairedData:
    if not own or share == 0:
        return data
    return replace(data, groups=(*_weighted(data.groups, 1 - share), *_weighted(own, share)))


def _weighted(groups: Iterable[Group], total: float) -> list[Group]:
    """The groups with weights that add up to ``total``."""
    groups = list(groups)
    factor = total / sum(group.weight for group in groups)
    return [replace(group, weight=group.weight * factor) for group in groups]
