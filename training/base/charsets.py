"""The character encoding of text files that people save in whatever program they have."""

import codecs
import logging
from pathlib import Path

from training.base.errors import DataError

__all__ = ["text_encoding"]

logger = logging.getLogger(__name__)

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_BLOCK = 1 << 20  # bytes


def text_encoding(path: Path, declared: str | None = None) -> str:
    """Finds out how the characters of a text file are encoded.

    The declared encoding counts; else the mark at the beginning of the file; else it is UTF-8, if all of the file is.
    Anything else is taken for Windows-1252, which holds Latin-1, and a warning says so.

    Args:
        path: the file.
        declared: name of an encoding, such as ``shift_jis``, if the user gave one.

    Raises:
        DataError: if no encoding has the declared name.
        OSError: if the file cannot be read.
    """
    if declared is not None:
        return _known(declared)
    decoder, lines = codecs.getincrementaldecoder("utf-8")(), 1
    with path.open("rb") as file:
        start = file.read(4)
        for mark, encoding in _MARKS.items():
            if start.startswith(mark):
                return encoding
        block = start + file.read(_BLOCK)
        while block:
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return _western(path, lines + block.count(b"\n", 0, error.start))
            lines += block.count(b"\n")
            block = file.read(_BLOCK)
    return "utf-8"


def _known(name: str) -> str:
    try:
        codec = codecs.lookup(name)
        "".encode(name)  # of the codecs that turn text into bytes
    except LookupError as error:
        raise DataError(f"no encoding is called {name!r}; names are such as utf-8, cp1252 or shift_jis") from error
    return "utf-8-sig" if codec.name == "utf-8" else codec.name


def _western(path: Path, line: int) -> str:
    logger.warning(
        "%s, line %d: not UTF-8; the file is read as Windows-1252, so save it in UTF-8 if letters come out wrong",
        path,
        line,
    )
    return "cp1252"
