"""Demo data: pairs of drawings and colour pictures of the same things, rendered from installed packages.

A new machine can train on this data without downloading anything else. It is an ordinary data set:

    OUT/sketch/<name>-<code point>/0.png ...   one line weight and one small jitter for each drawing
    OUT/photo/<name>-<code point>/0.png
    OUT/split.json                             {"seen": [class, ...], "unseen": [class, ...]}
    OUT/photographs/<kind>/<file>.webp         photographs to search beside the pictures; nothing is trained on them
    OUT/gallery.csv                            pictures and photographs with their credits, for ``svdraw index build``
    OUT/ATTRIBUTION.txt                        authors and licences of the pictures
    OUT/demo.json                              settings of the rendering, and whether it is finished
"""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from training.base.artifacts import write_text
from training.base.errors import DataError
from training.base.machine import processors
from training.data.demo_glyphs import (
    Emoji,
    demo_packages,
    draw_photo,
    draw_sketch,
    emoji_of_both_fonts,
    photo_font,
    random_jitter,
    sketch_font,
)
from training.data.demo_photographs import photographs, write_gallery

__all__ = ["DemoDataSummary", "render_demo_data"]

CLASSES_PER_TASK = 16

ATTRIBUTION = """\
sketch/  Noto Emoji, Copyright 2013 Google LLC, SIL Open Font License 1.1,
         https://openfontlicense.org
         Rendered in several line weights, centred, scaled, slightly turned, sheared and shifted.

photo/   All emojis designed by OpenMoji - the open-source emoji and icon project, https://openmoji.org
         License: CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/
         Rendered, centred and scaled. These pictures, and what is adapted from them, stay under CC BY-SA 4.0.

photographs/
         License: CC BY 2.0, https://creativecommons.org/licenses/by/2.0/
         Cropped and resized. gallery.csv names the author of each, and the page where it was published.
"""


@dataclass(frozen=True)
class DemoDataSummary:
    """Facts about a finished rendering.

    Attributes:
        split: file for the option ``--split``.
        classes: number of code points, with one photo each.
        unseen: how many of them are held out from training.
        sketches: number of drawings.
        rendered: False if the rendering already existed and nothing was done.
    """

    split: Path
    classes: int
    unseen: int
    sketches: int
    rendered: bool


@dataclass(frozen=True)
class _Settings:
    limit: int | None
    size: int
    drawings: int
    unseen: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("limit", "size", "drawings", "unseen"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise DataError(f"{name} must be at least 1, not {value}")


def render_demo_data(
    out: Path,
    *,
    limit: int | None = None,
    size: int = 256,
    drawings: int = 4,
    unseen: int = 300,
    seed: int = 0,
) -> DemoDataSummary:
    """Renders every code point that both fonts draw. An interrupted rendering is continued.

    The same arguments give the same pictures. A finished rendering is recognised and left unchanged.

    Args:
        out: folder to render into; it is created if it is missing.
        limit: number of code points, chosen by ``seed``; all when omitted.
        size: side of the square pictures, in pixels.
        drawings: number of sketches for each code point; their line weights spread over the whole weight axis.
        unseen: number of code points to hold out from training; never more than a quarter of all.
        seed: random seed for the choice of code points, the split and the jitters.

    Raises:
        DataError: if the fonts are not installed, a number is not positive, or ``out`` holds anything other
                than a rendering with the same settings.
    """
    settings = _Settings(limit, size, drawings, unseen, seed)
    manifest = {
        "settings": asdict(settings),
        "packages": demo_packages(),
        "photographs": len(photographs()),
        "finished": True,
    }
    finished = _is_finished(out, manifest)
    if not finished:
        _write_json(out / "demo.json", manifest | {"finished": False})
        seen_classes, unseen_classes = _chosen(emoji_of_both_fonts(), settings)
        _render(out, [*seen_classes, *unseen_classes], settings)
        write_gallery(out, _names([*seen_classes, *unseen_classes]))
        write_text(out / "ATTRIBUTION.txt", ATTRIBUTION)
        _write_json(out / "split.json", {"seen": _names(seen_classes), "unseen": _names(unseen_classes)})
        _write_json(out / "demo.json", manifest)
    return _summary(out / "split.json", drawings, rendered=not finished)


def _is_finished(out: Path, manifest: dict[str, Any]) -> bool:
    """Whether the same rendering already exists; raises an error for a folder that holds something else."""
    file = out / "demo.json"
    if not file.exists():
        if out.exists() and any(not entry.name.startswith(".demo.json.") for entry in out.iterdir()):
            raise DataError(f"{out} is not empty and holds no demo data: give another folder")
        out.mkdir(parents=True, exist_ok=True)
        return False
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or {**found, "finished": True} != manifest:
        raise DataError(f"{out} holds demo data with other settings: delete it or give another folder")
    return bool(found["finished"])


def _chosen(emoji: Sequence[Emoji], settings: _Settings) -> tuple[list[Emoji], list[Emoji]]:
    """Seen and unseen code points; the classes of a limited render are among those of the full one."""
    shuffled = random.Random(settings.seed).sample(emoji, len(emoji))[: settings.limit]
    held_out = min(settings.unseen, len(shuffled) // 4)
    return shuffled[held_out:], shuffled[:held_out]


def _names(emoji: Sequence[Emoji]) -> list[str]:
    return sorted(name for _, name in emoji)


def _render(out: Path, emoji: Sequence[Emoji], settings: _Settings) -> None:
    tasks = [emoji[start : start + CLASSES_PER_TASK] for start in range(0, len(emoji), CLASSES_PER_TASK)]
    with (
        ThreadPoolExecutor(processors()) as pool,
        tqdm(total=len(emoji), desc="render", unit="class", disable=None) as bar,
    ):
        futures = {pool.submit(_render_classes, out, task, settings): len(task) for task in tasks}
        try:
            for future in as_completed(futures):
                future.result()
                bar.update(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _render_classes(out: Path, emoji: Sequence[Emoji], settings: _Settings) -> None:
    size = settings.size
    # A font's state is not safe to share between threads, so every task opens its own.
    weights = [drawing / max(1, settings.drawings - 1) for drawing in range(settings.drawings)]
    sketches, photos = (
        [sketch_font(size, weight) for weight in weights],
        photo_font(size),
    )
    for character, name in emoji:
        for drawing, font in enumerate(sketches):
            jitter = random_jitter(random.Random(f"{settings.seed}/{ord(character):x}/{drawing}"))
            file = out / "sketch" / name / f"{drawing}.png"
            if not file.exists():
                _write_png(file, draw_sketch(character, font, size, jitter))
        file = out / "photo" / name / "0.png"
        if not file.exists():
            _write_png(file, draw_photo(character, photos, size))


def _write_png(file: Path, image: Image.Image) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    image.save(partial, format="PNG", compress_level=3)
    partial.replace(file)


def _write_json(file: Path, value: dict[str, Any]) -> None:
    write_text(file, json.dumps(value, indent=1) + "\n")


def _summary(split_file: Path, drawings: int, *, rendered: bool) -> DemoDataSummary:
    split = json.loads(split_file.read_text(encoding="utf-8"))
    classes = len(split["seen"]) + len(split["unseen"])
    return DemoDataSummary(
        split=split_file,
        classes=classes,
        unseen=len(split["unseen"]),
        sketches=classes * drawings,
        rendered=rendered,
    )
