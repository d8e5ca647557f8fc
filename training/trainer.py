"""The training loop: NestedLoRA on batches of pairs, resumable after a kill at any moment."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from training.checkpoints import EpochRecord, Progress, load_checkpoint, save_checkpoint
from training.losses import NestedLoRALoss
from training.sampling import Batch

__all__ = ["Optimization", "cosine_factor", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Optimization:
    """How parameters are optimised.

    Attributes:
        epochs: passes; 0 trains nothing.
        steps: batches an epoch.
        optimizer: ``adamw`` or ``sgd`` (Nesterov-free momentum).
        learning_rate: at its peak; warmed up linearly over 5% of all steps, then a cosine to zero.
        weight_decay: decoupled for AdamW.
        momentum: of SGD.
        clip: largest gradient norm; 0 leaves gradients as they are.
        amp: bfloat16 autocast on a GPU; the loss stays in float32.
    """

    epochs: int
    steps: int
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    momentum: float = 0.9
    clip: float = 1.0
    amp: bool = True


def cosine_factor(step: int, total: int) -> float:
    """Learning rate of a step as a fraction of its peak."""
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def train(
    module: nn.Module,
    embed: Callable[[Batch], tuple[Tensor, Tensor]],
    batches: Callable[[int], Batch],
    loss: NestedLoRALoss,
    optimization: Optimization,
    *,
    checkpoint: Path,
    fingerprint: str,
    stop_after: int | None = None,
    validate: Callable[[], float] | None = None,
    on_epoch: Callable[[list[EpochRecord]], None] | None = None,
) -> list[EpochRecord]:
    """Trains in place, from the checkpoint if there is one.

    Args:
        module: holds every trained parameter, and whatever else a checkpoint must restore.
        embed: f(x) and g(y) of a batch, each ``(batch, dim)``.
        batches: the batch of a step; must depend on the step alone.
        loss: objective.
        optimization: how.
        checkpoint: file written after every epoch.
        fingerprint: identifies data and settings.
        stop_after: last epoch to run, where that is before the schedule's end.
        validate: mAP on held-out classes.
        on_epoch: called with the history after every epoch.

    Returns:
        One record an epoch, epoch 0 being the state before training.

    Raises:
        CheckpointError: if the checkpoint is damaged or of another run.
        FloatingPointError: if the loss is no longer finite.
    """
    optimizer = _build_optimizer(module, optimization)
    progress = load_checkpoint(checkpoint, module, optimizer, fingerprint)
    if progress is None:
        progress = Progress(fingerprint=fingerprint)
        progress.history.append(EpochRecord(epoch=0, validation_map=validate() if validate else None))
    else:
        logger.info("going on after epoch %d of %d", len(progress.history) - 1, optimization.epochs)
    last = optimization.epochs if stop_after is None else stop_after
    for epoch in range(len(progress.history), last + 1):
        started = time.monotonic()
        mean_loss = _train_epoch(module, embed, batches, loss, optimizer, optimization, epoch)
        record = EpochRecord(
            epoch=epoch,
            loss=mean_loss,
            learning_rate=optimizer.param_groups[0]["lr"],
            validation_map=validate() if validate else None,
            seconds=time.monotonic() - started,
        )
        progress.history.append(record)
        save_checkpoint(checkpoint, module, optimizer, progress)
        if on_epoch:
            on_epoch(progress.history)
    return progress.history


def _train_epoch(
    module: nn.Module,
    embed: Callable[[Batch], tuple[Tensor, Tensor]],
    batches: Callable[[int], Batch],
    loss: NestedLoRALoss,
    optimizer: Optimizer,
    optimization: Optimization,
    epoch: int,
) -> float:
    module.train()
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total = optimization.epochs * optimization.steps
    first = (epoch - 1) * optimization.steps
    losses = 0.0
    bar = tqdm(
        range(first, first + optimization.steps), f"epoch {epoch}", unit="batch", leave=False, dynamic_ncols=True
    )
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = optimization.learning_rate * cosine_factor(step, total)
        batch = batches(step)
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=optimization.amp and batch.x.is_cuda):
            f, g = embed(batch)
        value = loss(f.float(), g.float(), batch.labels)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss is {value.item()} at step {step}; lower the learning rate")
        optimizer.zero_grad()
        value.backward()
        if optimization.clip > 0:
            nn.utils.clip_grad_norm_(parameters, optimization.clip)
        optimizer.step()
        losses += value.item()
        bar.set_postfix(loss=f"{value.item():.4f}")
    module.eval()
    return losses / optimization.steps


def _build_optimizer(module: nn.Module, optimization: Optimization) -> Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate, decay = optimization.learning_rate, optimization.weight_decay
    if optimization.optimizer == "sgd":
        return SGD(parameters, lr=rate, momentum=optimization.momentum, weight_decay=decay)
    return AdamW(parameters, lr=rate, weight_decay=decay)
