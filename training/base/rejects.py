"""The list of images that a job could not use."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from training.base.artifacts import write_text
from training.base.errors import ImageError

__all__ = ["reject_reason", "report_rejects"]

logger = logging.getLogger(__name__)

_SHOWN = 5


def reject_reason(error: Exception) -> str:
    """Why an image cannot be used, in a few words that hold no path."""
    if isinstance(error, ImageError):
        return error.reason
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def report_rejects(path: Path | None, reasons: Mapping[str, str], total: int, *, add: bool = False) -> None:
    """Logs and lists images that could not be used.

    Args:
        path: JSON lines file to write, with ``file`` (a path or URI) and ``reason``; None to log only.
        reasons: why, by file; what is not UTF-8 in a name is written as escapes.
        total: number of files read.
        add: whether to keep what the file lists already, instead of replacing it.
    """
    reasons = {_printable(file): _printable(reason) for file, reason in reasons.items()}
    if path is not None:
        listed = {**(_listed(path) if add else {}), **reasons}
        write_text(path, "".join(json.dumps({"file": f, "reason": r}) + "\n" for f, r in listed.items()))
    if reasons:
        where = f"; all are listed in {path}" if path is not None else ""
        logger.warning("%d of %d images rejected%s", len(reasons), total, where)
        for file, reason in list(reasons.items())[:_SHOWN]:
            logger.warning("  %s: %s", file, reason)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _listed(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["file"]: row["reason"] for row in rows}
