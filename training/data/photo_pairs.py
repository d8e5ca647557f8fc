"""Pairs from photos alone: line drawings of every photo of a folder, as a pairs table to train on."""

import csv
import hashlib
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from training.base.artifacts import atomic_write, write_text
from training.base.errors import DataError
from training.base.prefetch import map_ahead
from training.base.regular_files import read_regular
from training.base.rejects import reject_reason, report_rejects
from training.data.line_drawings import SIDE, Pixels, line_drawings
from training.model.images import image_files, open_image

__all__ = ["draw_outlines", "draw_pairs"]

_END = b"IEND\xaeB`\x82"  # of a PNG file


def draw_pairs(photos: Path, out: Path, *, drawings: int = 2) -> Path:
    """Draws the outlines of every photo below a folder; drawings that are there already are kept.

    Args:
        photos: folder of photos, searched with its subfolders.
        out: folder for ``pairs.csv``, the drawings, and ``rejects.jsonl``, which lists photos that cannot be used.
        drawings: number of drawings of each photo.

    Returns:
        The pairs table; every photo is a class of its own.

    Raises:
        DataError: if the folder holds fewer than two usable photos.
    """
    if not photos.is_dir():
        raise DataError(f"{photos} is not a folder; --photos needs a folder of photos")
    files = image_files(photos)
    unspeakable = {str(file): "its path is not UTF-8" for file in files if not _is_utf8(file)}
    drawn, reasons = draw_outlines([file for file in files if str(file) not in unspeakable], out / "drawings", drawings)
    reasons |= unspeakable
    rows = [(f.relative_to(out), photo.absolute()) for photo, outlines in drawn.items() for f in outlines]
    report_rejects(out / "rejects.jsonl", reasons, len(files))
    if len(files) - len(reasons) < 2:
        raise DataError(f"{photos} holds {len(files) - len(reasons)} usable photos; at least two are needed")
    table = io.StringIO()
    csv.writer(table).writerows([("sketch", "photo"), *rows])
    write_text(out / "pairs.csv", table.getvalue())
    return out / "pairs.csv"


def draw_outlines(photos: Sequence[Path], folder: Path, drawings: int) -> tuple[dict[Path, list[Path]], dict[str, str]]:
    """Draws the outlines of photos; drawings that are there already are kept.

    Args:
        photos: files of the photos.
        folder: folder for the drawings. They are named by the content of the photo, and lie in 256 folders, for a
            folder with millions of files is slow.
        drawings: number of drawings of each photo.

    Returns:
        The drawings of each photo, and the reason for each photo that has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[Path, list[Path]] = {}
    reasons = {}
    results = map_ahead(partial(_draw, folder=folder, drawings=drawings), photos)
    for photo, result in zip(tqdm(photos, "line drawings", unit="photo", dynamic_ncols=True), results, strict=True):
        if isinstance(result, str):
            reasons[str(photo)] = result
        else:
            drawn[photo] = result
    return drawn, reasons


def _is_utf8(path: Path) -> bool:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _draw(file: Path, *, folder: Path, drawings: int) -> list[Path] | str:
    """A photo's drawings; or why there are none."""
    try:
        content = read_regular(file)
        digest = hashlib.sha256(content).digest()
        prefix, rest = digest.hex()[:2], digest.hex()[2:24]
        names = [folder / prefix / f"{rest}-{number}.png" for number in range(drawings)]
        if all(map(_is_whole, names)):
            return names
        outlines = line_drawings(open_image(content, draft=SIDE), np.random.default_rng(list(digest)), drawings)
    except MemoryError:
        raise
    except Exception as error:  # no single photo may end the job
        return reject_reason(error)
    (folder / prefix).mkdir(exist_ok=True)
    for name, outline in zip(names, outlines, strict=True):
        with atomic_write(name, synced=False) as temporary:
            temporary.write_bytes(_encoded(outline))
    return names


def _encoded(drawing: Pixels) -> bytes:
    """A PNG file of one bit a pixel, which takes a tenth of the time that one in colours does."""
    _, content = cv2.imencode(".png", drawing, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return content.tobytes()


def _is_whole(drawing: Path) -> bool:
    """Whether a drawing is there, and not cut short by a machine that stopped; it can always be drawn again."""
    try:
        return drawing.read_bytes().endswith(_END)
    except FileNotFoundError:
        return False
