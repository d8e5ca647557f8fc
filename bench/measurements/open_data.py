"""A data set of photos under CC BY, and drawings of their kinds."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

from measurements.command import BenchmarkError
from measurements.strokes import render_classes
from training.data.photo_pairs import draw_outlines

__all__ = ["make_open_data"]


def make_open_data(strokes: Path, photos: Path, sources: Path, out: Path, limit: int) -> None:
    """Writes ``out/photo`` and ``out/sketch``: people's drawings where there are some of the kind, else line drawings.

    Photos of a kind without people's drawings lie in a class named after ImageNet's, with ``imagenet_`` before it.
    """
    known = {file.stem for file in strokes.glob("*.ndjson")}
    with sources.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "imagenet_class", "quickdraw_class"} <= rows[0].keys():
        raise BenchmarkError(f"{sources} needs the columns file, imagenet_class and quickdraw_class")
    of_class: dict[str, list[Path]] = {}
    for row in rows:
        is_drawn = row["quickdraw_class"] in known
        name = row["quickdraw_class"] if is_drawn else "imagenet_" + row["imagenet_class"].split(",")[0]
        of_class.setdefault(name.replace(" ", "_").replace("/", "_"), []).append(photos / row["file"])
    with TemporaryDirectory() as folder:
        for name, files in of_class.items():
            _link(files, Path(folder) / name)
            _link(files, out / "photo" / name)
        render_classes(strokes, Path(folder), out, limit)
    _draw_others({name: files for name, files in of_class.items() if name.startswith("imagenet_")}, out)


def _draw_others(of_class: dict[str, list[Path]], out: Path) -> None:
    drawn, rejects = draw_outlines([file for files in of_class.values() for file in files], out / "outlines", 1)
    for name, files in of_class.items():
        for file in files:
            for drawing in drawn.get(file, []):
                _link([drawing], out / "sketch" / name, f"{file.stem}-1.png")
    print(f"{len(of_class)} classes with line drawings of their photos, {len(rejects)} photos could not be drawn")


def _link(files: list[Path], folder: Path, name: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / (name or file.name)
        if not link.exists():
            link.symlink_to(file.resolve())
