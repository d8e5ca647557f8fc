"""What a run leaves to look at: metrics.jsonl, TensorBoard events and the list of rejected images."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.artifacts import write_text
from training.checkpoints import EpochRecord

__all__ = ["RunLog", "report_rejects"]

logger = logging.getLogger(__name__)

_REJECTS_SHOWN = 5


class RunLog:
    """Writes figures after every epoch.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._stages: dict[str, Sequence[EpochRecord]] = {}

    def write(self, stage: str, history: Sequence[EpochRecord]) -> None:
        """Replaces ``metrics.jsonl`` with all stages so far, so that a resumed run never repeats a line."""
        self._stages[stage] = history
        rows = [
            json.dumps({"stage": name, **record.model_dump(exclude_none=True)}) + "\n"
            for name, records in self._stages.items()
            for record in records
        ]
        write_text(self._out / "metrics.jsonl", "".join(rows))
        latest = history[-1]
        figures = latest.model_dump(exclude={"epoch", "seconds"}, exclude_none=True)
        with SummaryWriter(self._out / "tensorboard" / stage) as writer:
            for name, value in figures.items():
                writer.add_scalar(name, value, latest.epoch)
        if figures:
            logger.info(
                "epoch %d: %s", latest.epoch, ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
            )


def report_rejects(path: Path | None, reasons: Mapping[str, str], total: int) -> None:
    """Logs and lists images that could not be used.

    Args:
        path: JSON lines file to write; an earlier one is replaced.
        reasons: why, by file.
        total: number of files read.
    """
    if path is not None:
        write_text(path, "".join(json.dumps({"file": f, "reason": r}) + "\n" for f, r in reasons.items()))
    if reasons:
        where = f"; all are listed in {path}" if path is not None else ""
        logger.warning("%d of %d images rejected%s", len(reasons), total, where)
        for file, reason in list(reasons.items())[:_REJECTS_SHOWN]:
            logger.warning("  %s: %s", file, reason)
