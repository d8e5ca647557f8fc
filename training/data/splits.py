"""Splits of the classes into those seen in training and those held out."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.base.errors import SplitError
from training.data.published import listed_classes

__all__ = ["ClassSplit", "hold_out", "load_split"]

_SKETCHY_2_UNSEEN = (
    "bat",
    "cabin",
    "cow",
    "dolphin",
    "door",
    "giraffe",
    "helicopter",
    "mouse",
    "pear",
    "raccoon",
    "rhinoceros",
    "saw",
    "scissors",
    "seagull",
    "skyscraper",
    "songbird",
    "sword",
    "tree",
    "wheelchair",
    "windmill",
    "window",
)

# Of QuickDraw Extended, as public code lists them; folders are named with spaces or with underscores.
_QUICKDRAW_UNSEEN = (
    "banana",
    "bat",
    "beach",
    "bread",
    "cactus",
    "cake",
    "campfire",
    "cow",
    "dolphin",
    "door",
    "fan",
    "feather",
    "fire hydrant",
    "frog",
    "giraffe",
    "hamburger",
    "helicopter",
    "megaphone",
    "mouse",
    "palm tree",
    "raccoon",
    "rhinoceros",
    "saw",
    "scissors",
    "shark",
    "skyscraper",
    "tiger",
    "tree",
    "windmill",
    "zebra",
)


class ClassSplit(NamedTuple):
    """Names of the classes seen in training and of the unseen ones; disjoint, and each sorted."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]


def load_split(name: str, classes: Collection[str], *, training: bool = False) -> ClassSplit:
    """Reads a split by name or file.

    Args:
        name: ``sketchy-1`` (80% of the sorted classes drawn with NumPy's legacy seed 0; Shen et al. 2018),
            ``sketchy-2`` (21 named classes unseen; Yelamarthi et al. 2018), ``quickdraw`` (30 named classes unseen; Dey
            et al. 2019), or a file: JSON ``{"seen": [...], "unseen": [...]}``, a text file that lists the unseen
            classes, one a line, or a published list of the files of the unseen classes.
        classes: class names of the data set.
        training: whether the seen classes are to be trained on, which takes two at least.

    Raises:
        SplitError: if the split cannot be read or does not fit the data set.
    """
    split = _load(name, classes)
    if training and len(split.seen) < 2:
        raise SplitError(f"{name} leaves {len(split.seen)} seen classes; at least two are needed to train")
    return split


def _load(name: str, classes: Collection[str]) -> ClassSplit:
    if name == "sketchy-1":
        return _sketchy_1(classes)
    if name == "sketchy-2":
        return _from_unseen(_SKETCHY_2_UNSEEN, classes, name)
    if name == "quickdraw":
        return _from_unseen(_as_spelled(_QUICKDRAW_UNSEEN, classes), classes, name)
    return _from_file(Path(name), classes)


def hold_out(classes: Collection[str], fraction: float, seed: int) -> ClassSplit:
    """Holds out a random fraction of the classes: at least one, and so few that at least two remain.

    Args:
        classes: names of all classes.
        fraction: share of the classes to hold out, between 0 and 1.
        seed: seed of the choice.

    Raises:
        SplitError: if there are fewer than three classes.
    """
    if len(classes) < 3:
        raise SplitError(f"{len(classes)} classes are too few to hold any out; three are needed")
    count = min(max(1, round(fraction * len(classes))), len(classes) - 2)
    chosen = np.random.default_rng(seed).choice(sorted(classes), count, replace=False)
    return _from_unseen([str(label) for label in chosen], classes, "held-out classes")


def _as_spelled(names: Collection[str], classes: Collection[str]) -> list[str]:
    """The names as the data set spells them: with spaces, underscores or hyphens."""
    spelled = {re.sub("[ _-]", " ", label): label for label in classes}
    return [spelled.get(name, name) for name in names]


def _sketchy_1(classes: Collection[str]) -> ClassSplit:
    ordered = sorted(classes)
    # The published split was drawn with the legacy generator, whose stream differs from default_rng's.
    seen = np.random.RandomState(0).choice(ordered, int(0.8 * len(ordered)), replace=False)
    return _from_unseen(sorted(set(ordered) - set(seen.tolist())), classes, "sketchy-1")


def _from_file(path: Path, classes: Collection[str]) -> ClassSplit:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SplitError(f"no split {str(path)!r}: it is neither sketchy-1, sketchy-2, quickdraw nor a file") from error
    except UnicodeDecodeError as error:
        raise SplitError(f"{path} is not a text file") from error
    if text.strip() and (listed := listed_classes(text)):
        return _from_unseen(listed, classes, str(path))
    if not text.lstrip().startswith("{"):
        return _from_unseen([line.strip() for line in text.splitlines() if line.strip()], classes, str(path))
    try:
        content = json.loads(text)
        seen, unseen = (frozenset(content[side]) for side in ("seen", "unseen"))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SplitError(f'{path} must hold {{"seen": [...], "unseen": [...]}}: {error}') from error
    if both := sorted(seen & unseen):
        raise SplitError(f"{path} lists {both[0]!r} as seen and as unseen")
    if strange := sorted((seen | unseen) - set(classes)):
        raise SplitError(f"{path} names {len(strange)} classes the data set lacks, {strange[0]!r} among them")
    return _checked(ClassSplit(tuple(sorted(seen)), tuple(sorted(unseen))), str(path))


def _from_unseen(unseen: Sequence[str], classes: Collection[str], source: str) -> ClassSplit:
    if strange := sorted(set(unseen) - set(classes)):
        raise SplitError(f"{source} names {len(strange)} classes the data set lacks, {strange[0]!r} among them")
    seen = sorted(set(classes) - set(unseen))
    return _checked(ClassSplit(tuple(seen), tuple(sorted(set(unseen)))), source)


def _checked(split: ClassSplit, source: str) -> ClassSplit:
    if not split.unseen:
        raise SplitError(f"{source} leaves no class unseen")
    return split
