"""Figures that a run writes after every epoch: ``metrics.jsonl`` and TensorBoard events."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from training.base.artifacts import write_text
from training.fit.checkpoints import EpochRecord
from training.fit.distributed import is_first

__all__ = ["RunLog"]

logger = logging.getLogger(__name__)


class RunLog:
    """Writes figures after every epoch.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._stages: dict[str, Sequence[EpochRecord]] = {}

    def write(self, stage: str, history: Sequence[EpochRecord]) -> None:
        """Writes the figures of a stage; ``metrics.jsonl`` is replaced, so that a resumed run never repeats a line.

        Args:
            stage: name of the stage.
            history: one record for each finished epoch; at least one.
        """
        if not is_first():
            return
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
