"""Instance pairs: which photo each sketch depicts, as far as the data says so.

A pairs table says it row by row. Folders say it by file names, as in the Sketchy Database, where ``NAME-1.png`` and
``NAME-2.png`` are sketches of photo ``NAME.jpg`` in that class. Merely numbered files must not be taken for that.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["NO_INSTANCES", "ClassFiles", "InstancePairs", "Pairing", "pairs_by_name"]

logger = logging.getLogger(__name__)

Pairing = Literal["auto", "names", "none"]

_DRAWING = re.compile(r"(?P<name>.+)-\d+")  # of the stem of a sketch
_BY_NAME = "by file names NAME-k of photo NAME"
_LEAST_SHARE = 0.5  # of the sketches that names must pair before they are believed


class ClassFiles(NamedTuple):
    """The files of one class."""

    label: str
    sketches: Sequence[Path]
    photos: Sequence[Path]


@dataclass(frozen=True)
class InstancePairs:
    """Which photo each sketch depicts, and how that is known.

    Attributes:
        photos: photo by sketch; a sketch whose photo is not known is left out.
        rule: how the data says so, or why there are no pairs, in words.
    """

    photos: Mapping[Path, Path] = field(default_factory=dict)
    rule: str = "none are given"

    def describe(self, sketches: Collection[Path]) -> str:
        """One line that says how many of some sketches are paired, and by which rule."""
        count = sum(sketch in self.photos for sketch in sketches)
        return f"{count:,} instance pairs {self.rule}" if self.photos else f"no instance pairs: {self.rule}"


NO_INSTANCES = InstancePairs()


def pairs_by_name(classes: Sequence[ClassFiles], pairing: Pairing = "auto") -> InstancePairs:
    """Pairs sketches with the photos that their file names say they depict.

    ``auto`` believes file names only if they follow the pattern of the Sketchy Database throughout the data set:
    more than half of all sketches are called ``NAME-k`` after a photo ``NAME`` of their class; no NAME is a mere number
    or the name of the class; no sketch has the name of a photo of its class, and no photo is called ``NAME-k`` after
    another one, for then the numbers are those of a numbered folder.

    Args:
        classes: the files of every class of the data set.
        pairing: ``auto``; ``names`` to pair every sketch ``NAME-k`` or ``NAME`` with a photo NAME, whatever the other
            names are; ``none`` for no pairs.
    """
    if pairing == "none":
        return InstancePairs(rule="the recipe wants none")
    by_stem = [(each, _by_stem(each.photos)) for each in classes]
    if pairing == "names":
        pairs = {sketch: photo for each, photos in by_stem for sketch, photo in _named(each, photos)}
        return InstancePairs(pairs, f"{_BY_NAME}, or NAME itself") if pairs else _untold(0, 0)
    total = sum(len(each.sketches) for each in classes)
    pairs = {sketch: photo for each, photos in by_stem for sketch, photo in _drawn(each, photos)}
    if len(pairs) <= _LEAST_SHARE * total or any(_is_numbered(each, photos) for each, photos in by_stem):
        return _untold(len(pairs), total)
    return InstancePairs(pairs, _BY_NAME)


def _untold(paired: int, total: int) -> InstancePairs:
    rule = "file names do not tell which photo a sketch depicts"
    if paired:
        rule += f" throughout ({paired:,} of {total:,} are called NAME-k after a photo NAME; pairing names takes them)"
    return InstancePairs(rule=rule)


def _by_stem(photos: Sequence[Path]) -> dict[str, Path]:
    """Photos by their names without suffix; a name that two photos share tells nothing."""
    found: dict[str, Path | None] = {}
    for photo in photos:
        found[photo.stem] = None if photo.stem in found else photo
    return {stem: photo for stem, photo in found.items() if photo is not None}


def _drawn(files: ClassFiles, photos: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """Sketches NAME-k with photo NAME, where NAME is a name and not a number or that of the class."""
    for sketch in files.sketches:
        match = _DRAWING.fullmatch(sketch.stem)
        name = match["name"] if match else ""
        if name in photos and _letters(name) != _letters(files.label) and any(letter.isalpha() for letter in name):
            yield sketch, photos[name]


def _named(files: ClassFiles, photos: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """Sketches NAME or NAME-k with photo NAME, whatever NAME is."""
    for sketch in files.sketches:
        match = _DRAWING.fullmatch(sketch.stem)
        photo = photos.get(sketch.stem) or (photos.get(match["name"]) if match else None)
        if photo is not None:
            yield sketch, photo


def _is_numbered(files: ClassFiles, photos: Mapping[str, Path]) -> bool:
    """Whether sketches and photos are named alike, so that their numbers count files and not drawings of a photo."""
    stems = {photo.stem for photo in files.photos}
    drawings = (match for stem in stems if (match := _DRAWING.fullmatch(stem)))
    return any(sketch.stem in stems for sketch in files.sketches) or any(match["name"] in photos for match in drawings)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
