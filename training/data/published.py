"""The layouts in which published data sets for sketch-based retrieval are distributed.

An archive has a folder of sketches and one of photos, each with a folder per class; only their names differ. A split
may come as lists of files beside it, one file and the number of its class a line:

    zeroshot1/NAME_filelist_train.txt    SKETCHES/pig/n02395406_3133-2.png 0

with ``train`` for the seen classes and ``zero`` for the unseen ones, one NAME for sketches and one for photos. Paths
are relative to the folder above. A list of ``test`` repeats files of the seen classes and is not read.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from training.base.errors import DataError

__all__ = ["has_lists", "image_folders", "listed_classes", "listed_files"]

# Sketches and photos. Sketchy Extended comes before Sketchy, whose sketches it has; the plain names come last.
_LAYOUTS = (
    ("256x256/sketch/tx_000000000000", "EXTEND_image_sketchy"),
    ("256x256/sketch/tx_000000000000", "256x256/EXTEND_image_sketchy"),
    ("256x256/sketch/tx_000000000000", "256x256/photo/tx_000000000000"),
    ("sketch/tx_000000000000", "photo/tx_000000000000"),
    ("png", "ImageResized"),
    ("png_ready", "ImageResized_ready"),
    ("QuickDraw_sketches_final", "QuickDraw_images_final"),
    ("sketch", "photo"),
)
_SKETCH_LISTS = ("sketch_tx_000000000000_ready", "png_ready")
_PHOTO_LISTS = ("all_photo", "photo_tx_000000000000_ready", "ImageResized_ready")
_PARTS = ("train", "zero")


def image_folders(root: Path) -> tuple[Path, Path]:
    """The folders of sketches and of photos below the root of a data set; ``sketch`` and ``photo`` if none is known."""
    candidates = [(root / sketch, root / photo) for sketch, photo in _LAYOUTS]
    return next((each for each in candidates if all(folder.is_dir() for folder in each)), candidates[-1])


def has_lists(folder: Path) -> bool:
    """Whether a folder holds the file lists of a published split."""
    return folder.is_dir() and any(folder.glob("*_filelist_zero.txt"))


def listed_files(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The sketches and the photos of every class, seen or unseen, that the lists of a folder name.

    Raises:
        DataError: if a list is missing or damaged.
    """
    sketches, photos = (_files(folder, names) for names in (_SKETCH_LISTS, _PHOTO_LISTS))
    return sketches, photos


def listed_classes(text: str) -> list[str] | None:
    """The classes of a file list, in order; None if the text is no such list."""
    lines = [line.rsplit(None, 1) for line in text.splitlines() if line.strip()]
    if not all(len(words) == 2 and words[1].isdigit() and "/" in words[0] for words in lines):
        return None
    return list(dict.fromkeys(PurePosixPath(words[0]).parent.name for words in lines))


def _files(folder: Path, names: tuple[str, ...]) -> dict[str, list[Path]]:
    found = [name for name in names if (folder / f"{name}_filelist_zero.txt").is_file()]
    if not found:
        raise DataError(f"{folder} has no list of its sketches or photos, such as {names[0]}_filelist_zero.txt")
    classes: dict[str, list[Path]] = {}
    for part in _PARTS:
        for label, file in _lines(folder / f"{found[0]}_filelist_{part}.txt"):
            classes.setdefault(label, []).append(folder.parent / file)
    return dict(sorted(classes.items()))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The class, by the name of its folder, and the file of every line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {path} cannot be read: {error}") from error
    if listed_classes(text) is None:
        raise DataError(f"{path} is not a file list: every line must have a path and the number of its class")
    for line in text.splitlines():
        if line.strip():
            file = line.rsplit(None, 1)[0].strip()
            yield PurePosixPath(file).parent.name, file
