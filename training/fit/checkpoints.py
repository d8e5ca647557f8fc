"""Checkpoints of a training run: one safetensors file, replaced atomically, no pickle."""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from training.base.artifacts import atomic_write
from training.base.errors import CheckpointError
from training.model.tensors import module_tensors, restore_module, save_tensors

__all__ = ["EpochRecord", "Progress", "load_checkpoint", "save_checkpoint"]


class EpochRecord(BaseModel):
    """Figures of one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean of the training loss over the epoch.
        learning_rate: learning rate of the first parameter group at the end of the epoch.
        seconds: duration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    loss: float | None = None
    learning_rate: float | None = None
    seconds: float = 0.0


class Progress(BaseModel):
    """How far a run has come.

    Attributes:
        fingerprint: identifies the data and the settings; a checkpoint with another fingerprint is refused.
        history: one record for each finished epoch.
    """

    model_config = ConfigDict(extra="forbid")

    fingerprint: str
    history: list[EpochRecord] = []


def save_checkpoint(path: Path, module: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
    """Replaces the checkpoint atomically: a kill at any moment leaves the old one or the new one.

    Args:
        path: file to replace.
        module: its parameters and buffers are saved.
        optimizer: its state is saved.
        progress: how far the run has come.
    """
    tensors = {f"module.{name}": tensor for name, tensor in module_tensors(module).items()}
    for position, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{position}.{name}"] = value
    with atomic_write(path) as temporary:
        save_tensors(temporary, tensors, {"progress": progress.model_dump_json()})


def load_checkpoint(path: Path, module: nn.Module, optimizer: Optimizer, fingerprint: str) -> Progress | None:
    """Restores a module and its optimizer in place.

    Args:
        path: file written by ``save_checkpoint``.
        module: a module with the same parameters and buffers.
        optimizer: an optimizer of the same kind over the same parameters.
        fingerprint: identifies the data and the settings of this run.

    Returns:
        The run's progress, or None if there is no checkpoint.

    Raises:
        CheckpointError: if the checkpoint is damaged or of another run.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress.model_validate_json(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValidationError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged; remove it to start this run again") from error
    if progress.fingerprint != fingerprint:
        raise CheckpointError(f"{path} belongs to other data or settings; use another --out, or remove the folder")
    try:
        restore_module(module, _with_prefix(tensors, "module."))
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the model ({error}); remove it to start again") from error
    _restore_optimizer(optimizer, _with_prefix(tensors, "optimizer."))
    return progress


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        position, key = name.split(".", 1)
        state.setdefault(int(position), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.as_tensor(value) for name, value in tensors.items() if name.startswith(prefix)
    }
