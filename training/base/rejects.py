"""The list of images that a job could not use."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from training.base.artifacts import write_text

__all__ = ["report_rejects"]

logger = logging.getLogger(__name__)

_SHOWN = 5


def report_rejects(path: Path | None, reasons: Mapping[str, str], total: int) -> None:
    """Logs and lists images that could not be used.

    Args:
        path: JSON lines file to write, with ``file`` (a path or URI) and ``reason``; an earlier one is replaced.
        reasons: why, by file.
        total: number of files read.
    """
    if path is not None:
        write_text(path, "".join(json.dumps({"file": f, "reason": r}) + "\n" for f, r in reasons.items()))
    if reasons:
        where = f"; all are listed in {path}" if path is not None else ""
        logger.warning("%d of %d images rejected%s", len(reasons), total, where)
        for file, reason in list(reasons.items())[:_SHOWN]:
            logger.warning("  %s: %s", file, reason)
