"""The photographs that are part of the package, for the gallery of the demo: kinds of things that people draw.

They were published on Flickr under CC BY 2.0, come from the development set of the NIPS 2017 contest on adversarial
images, and were cropped and resized to 192 x 192 pixels. ``photographs/credits.csv`` names the author of each, and the
page where it was published.
"""

import csv
import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from training.base.artifacts import write_text

__all__ = ["Photograph", "photographs", "write_gallery"]

_LICENCE = "CC BY 2.0, https://creativecommons.org/licenses/by/2.0/"
_CHANGES = "cropped and resized"
_EMOJI = {"author": "OpenMoji", "licence": "CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/"}
_EMOJI_SOURCE = "https://openmoji.org"
_COLUMNS = ("uri", "label", "author", "source", "licence", "changes")


class Photograph(NamedTuple):
    """A photograph: its file's name, the kind of thing it shows, its author, and the page where it was published."""

    file: str
    label: str
    author: str
    source: str


def photographs() -> list[Photograph]:
    """The photographs of the package, by kind."""
    table = (files("training.data") / "photographs" / "credits.csv").read_text(encoding="utf-8")
    return [Photograph(**row) for row in csv.DictReader(StringIO(table))]


def write_gallery(out: Path, pictures: Sequence[str]) -> None:
    """Copies the photographs beside the pictures of the demo, and lists both with their credits.

    Args:
        out: folder of the demo's data; gets the photographs as ``photographs/<label>/<file>``, and the table
            ``gallery.csv`` for ``svdraw index build``.
        pictures: classes of the rendered pictures, which lie in ``photo/<class>/0.png``.
    """
    rows = [
        {"uri": f"photo/{name}/0.png", "label": name, "source": _EMOJI_SOURCE, "changes": "rendered", **_EMOJI}
        for name in pictures
    ]
    with as_file(files("training.data") / "photographs") as folder:
        for photo in photographs():
            uri = f"photographs/{photo.label}/{photo.file}"
            (out / uri).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / photo.file, out / uri)
            credit = {"author": photo.author, "source": photo.source, "licence": _LICENCE, "changes": _CHANGES}
            rows.append({"uri": uri, "label": photo.label, **credit})
    table = StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "gallery.csv", table.getvalue())
