"""SVG drawings, which people draw in other programs: cleaned, then drawn within bounds of time and memory.

What is kept are lines, shapes, groups, gradients and style sheets. Pictures, text, scripts, animations, filters, masks
and clips are left out, and so is every reference to something outside of the file. Entities are refused. The drawing is
made by resvg, which comes with the extra ``formats``, in a process that is ended if it takes too long.
"""

import io
import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

from training.base.errors import ImageError
from training.model import rasteriser
from training.model.formats import EXTRA, Opened

__all__ = ["is_drawing", "open_drawing"]

_NAMESPACE = "http://www.w3.org/2000/svg"
_HREF = "http://www.w3.org/1999/xlink href"
_SHAPES = {"circle", "ellipse", "line", "path", "polygon", "polyline", "rect"}
_PAINT = {"linearGradient", "radialGradient", "stop", "style"}
_ELEMENTS = _SHAPES | _PAINT | {"a", "defs", "g", "svg", "switch", "symbol", "use"}
_DANGLING = re.compile(r"(?:^|(?<=[;{\s]))(?:filter|mask|clip-path)\s*:[^;}]*;?|@import[^;]*;?")
_REFERENCE = re.compile(r"url\((?!\s*['\"]?#)[^)]*\)?")  # to another file
_UNITS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}

_MAX_BYTES = 4 << 20
_MAX_DEPTH = 200
_MAX_COPIES = 50_000  # of elements, by ``use``
_SIDE = 1024  # pixels of the longer side, whatever size the drawing says it has
_SECONDS = 20  # by the clock, for a machine that is busy


def is_drawing(content: bytes) -> bool:
    """Whether a file may be an SVG drawing: XML that names it early."""
    start = content[:4096].replace(b"\0", b"")  # of UTF-16
    return start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<") and b"<svg" in start.replace(b":svg", b"<svg")


def open_drawing(content: bytes, max_pixels: int, bounded: bool = False) -> Opened:
    """Reads an SVG drawing; it is drawn when it is decoded.

    Args:
        content: of the file.
        max_pixels: largest width times height that it is drawn in.
        bounded: see ``read_image``.

    Raises:
        ImageError: if it is damaged, refused, has no size, or cannot be drawn; or if resvg is not installed.
    """
    if find_spec("resvg_py") is None:
        raise ImageError(f'an SVG drawing, which pip install "{EXTRA}" makes readable')
    if len(content) > _MAX_BYTES:
        raise ImageError(f"an SVG drawing of more than {_MAX_BYTES >> 20} MiB")
    cleaner = _Cleaner(min(_SIDE, math.isqrt(max_pixels)))
    try:
        cleaner.read(content)
    except expat.ExpatError as error:
        raise ImageError(f"a damaged SVG drawing ({error})") from error
    if cleaner.copies() > _MAX_COPIES:
        raise ImageError(f"an SVG drawing that shows parts of itself more than {_MAX_COPIES:,} times over")
    width, height = cleaner.size
    draw = rasteriser.rasterise if bounded else _rasterised_apart
    return Opened("SVG", width, height, width * height, lambda: (_drawn("".join(cleaner.text), draw), 1))


def _drawn(text: str, draw: Callable[[str], bytes]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(draw(text)), formats=["PNG"])
    except ValueError as error:
        raise ImageError(f"an SVG drawing that cannot be drawn ({str(error)[-200:]})") from error


def _rasterised_apart(text: str) -> bytes:
    command = [sys.executable, "-I", str(Path(rasteriser.__file__))]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:
        raise ImageError("an SVG drawing that takes too long to draw")
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace"))
    return done.stdout


class _Part:
    """An element with an id, or the root, with all in it that is in no other part."""

    def __init__(self) -> None:
        self.elements = 0
        self.parts: list[_Part] = []  # directly within it
        self.shows: list[str] = []  # ids of what it shows again


class _Cleaner:
    """Writes those parts of a drawing anew that are kept, in a size of one's choice."""

    def __init__(self, side: int) -> None:
        self.text: list[str] = []
        self.size = (0, 0)
        self._side = side
        self._kept: list[bool] = []  # by depth
        self._elements = 0
        self._root = _Part()
        self._around = [self._root]  # the innermost part, by depth
        self._ids: dict[str, _Part] = {}
        self._in_style = False

    def read(self, content: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity
        parser.Parse(content, True)

    def _entity(self, name: str, *_: object) -> None:
        raise ImageError(f"an SVG drawing that declares an entity, {name[:40]}; save it as plain SVG")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.removeprefix(f"{_NAMESPACE} ")
        is_root = not self._kept
        if is_root and name != "svg":
            raise ImageError("XML, but not an SVG drawing")
        if len(self._kept) == _MAX_DEPTH:
            raise ImageError(f"an SVG drawing nested more than {_MAX_DEPTH} deep")
        self._kept.append(name in _ELEMENTS and (is_root or self._kept[-1]))
        if not self._kept[-1]:
            return
        kept = _kept_attributes(attributes)
        self._count(name, kept)
        if is_root:
            kept |= self._sized(attributes) | {"xmlns": _NAMESPACE}
        self._in_style = name == "style"
        self.text.append(f"<{name}{''.join(f' {key}={quoteattr(value)}' for key, value in kept.items())}>")

    def _end(self, name: str) -> None:
        if self._kept.pop():
            self._around.pop()
            self.text.append(f"</{name.removeprefix(f'{_NAMESPACE} ')}>")
        self._in_style = False

    def _characters(self, text: str) -> None:
        if self._in_style and self._kept[-1]:
            self.text.append(escape(_clean_style(text)))

    def copies(self) -> int:
        """How many elements are drawn because a ``use`` shows them again, those in what it shows included."""
        shown: dict[int, int] = {}

        def size(part: _Part) -> int:
            """Of what is drawn of a part; one that shows itself shows nothing of itself again, as in resvg."""
            if id(part) not in shown:
                shown[id(part)] = 0
                again = [self._ids[name] for name in part.shows if name in self._ids]
                shown[id(part)] = part.elements + sum(map(size, part.parts + again))
            return shown[id(part)]

        return size(self._root) - self._elements

    def _count(self, name: str, attributes: dict[str, str]) -> None:
        """Counts an element of the innermost part, which it may be itself."""
        around = self._around[-1]
        if identifier := attributes.get("id"):
            part = _Part()
            around.parts.append(part)
            self._ids.setdefault(identifier, part)
            around = part
        self._around.append(around)
        self._elements += 1
        around.elements += 1
        if name == "use":
            around.shows.append(attributes.get("href", "#")[1:])

    def _sized(self, attributes: dict[str, str]) -> dict[str, str]:
        """Attributes of the root with the size that is drawn."""
        box = _numbers(attributes.get("viewBox", ""))
        if len(box) != 4:
            box = [0, 0, *(_length(attributes.get(name, "")) for name in ("width", "height"))]
        if not (all(map(math.isfinite, box)) and min(box[2:]) > 0 and max(box[2:]) < 1e9):
            raise ImageError("an SVG drawing without a viewBox, or width and height, that makes sense")
        scale = self._side / max(box[2:])
        self.size = (max(1, round(box[2] * scale)), max(1, round(box[3] * scale)))
        view = " ".join(f"{number:.9g}" for number in box)
        return {"width": str(self.size[0]), "height": str(self.size[1]), "viewBox": view}


def _kept_attributes(attributes: dict[str, str]) -> dict[str, str]:
    kept = {}
    for key, value in attributes.items():
        name = "href" if key == _HREF else key
        value = _clean_style(value) if name == "style" else value
        is_foreign = " " in name or name.startswith("on") or name in ("filter", "mask", "clip-path", "xmlns")
        if is_foreign or _REFERENCE.search(value) or (name == "href" and not value.startswith("#")):
            continue
        kept[name] = value
    return kept


def _clean_style(text: str) -> str:
    """A style sheet without comments, and without what refers to parts that are left out or to other files."""
    return _REFERENCE.sub("none", _DANGLING.sub("", re.sub(r"/\*.*?\*/", "", text, flags=re.S)))


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in re.split(r"[\s,]+", text.strip())]
    except ValueError:
        return []


def _length(text: str) -> float:
    found = re.fullmatch(r"\s*([+\d.eE-]+?)\s*([a-z]*)\s*", text)
    try:
        return float(found[1]) * _UNITS[found[2]] if found else math.nan
    except (KeyError, ValueError):
        return math.nan
