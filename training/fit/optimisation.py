"""The training loop: NestedLoRA on batches, resumable after a kill at any moment."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from tqdm import tqdm

from training.base.errors import DivergenceError
from training.fit.checkpoints import EpochRecord, Progress, load_checkpoint, save_checkpoint
from training.fit.distributed import broadcast_module, is_first, sum_gradients

__all__ = ["MovingAverage", "Optimization", "ParameterGroup", "cosine_factor", "minimise"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained with the same peak learning rate."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float


@dataclass(frozen=True)
class Optimization:
    """Optimiser and schedule of a training.

    Learning rates are warmed up linearly over 5% of all steps, then follow a cosine to zero.

    Attributes:
        epochs: number of epochs; 0 trains nothing.
        steps: number of batches in an epoch.
        optimizer: ``adamw``, ``rmsprop`` or ``sgd`` (with plain, not Nesterov, momentum).
        weight_decay: weight decay; decoupled from the gradient for AdamW.
        momentum: momentum of SGD.
        memory: decay of the mean squared gradient that AdamW and RMSprop divide by.
        clip: largest gradient norm; 0 leaves gradients as they are.
        average: decay of the exponential moving average of parameters that training ends with; 0 for none.
    """

    epochs: int
    steps: int
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    weight_decay: float = 0.01
    momentum: float = 0.9
    memory: float = 0.999
    clip: float = 1.0
    average: float = 0.0


def cosine_factor(step: int, total: int) -> float:
    """The learning rate of a step as a fraction of its peak: a linear warm-up, then a cosine to zero.

    Args:
        step: number of the step, from 0.
        total: number of steps of the whole training.
    """
    warmup = max(1, total // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def minimise(
    module: nn.Module,
    groups: Sequence[ParameterGroup],
    loss: Callable[[int], Tensor],
    optimization: Optimization,
    *,
    checkpoint: Path,
    fingerprint: str,
    on_epoch: Callable[[list[EpochRecord]], None] | None = None,
) -> list[EpochRecord]:
    """Minimises any loss in place, from the checkpoint if there is one.

    Args:
        module: holds every trained parameter, and whatever else a checkpoint must restore; used in the mode
            (training or evaluation) that it is in.
        groups: the trained parameters.
        loss: scalar to descend at a step; what it draws at random must depend on the step alone. It may raise
            FloatingPointError where it is not defined any more.
        optimization: optimiser and schedule.
        checkpoint: file that is replaced after every epoch.
        fingerprint: identifies the data and the settings; a checkpoint with another fingerprint is refused.
        on_epoch: called with the history after every epoch.

    Returns:
        One record for each epoch, those before a resumption included.

    Raises:
        CheckpointError: if the checkpoint is damaged or of another run.
        DivergenceError: if the loss, its gradient or a parameter is no longer finite.
    """
    updates = _Updates(groups, loss, optimization)
    state = nn.ModuleDict({"module": module, "average": updates.average})
    progress = load_checkpoint(checkpoint, state, updates.optimizer, fingerprint)
    broadcast_module(state)
    if progress is None:
        progress = Progress(fingerprint=fingerprint)
    elif len(progress.history) < optimization.epochs:
        logger.info("going on after epoch %d of %d", len(progress.history), optimization.epochs)
    for epoch in range(len(progress.history) + 1, optimization.epochs + 1):
        started = time.monotonic()
        steps = range((epoch - 1) * optimization.steps, epoch * optimization.steps)
        losses = 0.0
        bar = tqdm(steps, f"epoch {epoch} of {optimization.epochs}", unit="batch", leave=False, dynamic_ncols=True)
        for step in bar:
            try:
                value = updates(step)
            except FloatingPointError as error:
                raise DivergenceError(_diverged(str(error), step, epoch, checkpoint)) from error
            losses += value
            bar.set_postfix(loss=f"{value:.4f}")
        record = EpochRecord(
            epoch=epoch,
            loss=losses / len(steps),
            learning_rate=updates.optimizer.param_groups[0]["lr"],
            seconds=time.monotonic() - started,
        )
        progress.history.append(record)
        if is_first():
            save_checkpoint(checkpoint, state, updates.optimizer, progress)
        if on_epoch:
            on_epoch(progress.history)
    updates.average.take_over()
    return progress.history


def _diverged(what: str, step: int, epoch: int, checkpoint: Path) -> str:
    kept = f"the checkpoint of epoch {epoch - 1} is kept in {checkpoint}" if epoch > 1 else "no epoch was finished yet"
    return f"{what} at step {step} of epoch {epoch}: lower the learning rate and give another --out; {kept}"


class MovingAverage(nn.Module):
    """Exponential moving average of parameters, which varies less than they do from step to step.

    Args:
        groups: parameters to average.
        decay: weight of the earlier average at each update, reached gradually; 0 keeps no average.
    """

    steps: Tensor

    def __init__(self, groups: Sequence[ParameterGroup], decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._current = [parameter for group in groups for parameter in group.parameters] if decay else []
        for position, parameter in enumerate(self._current):
            self.register_buffer(f"average{position}", parameter.detach().clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self) -> None:
        """Adds the current values of the parameters to the average."""
        self.steps += 1
        weight = 1 - min(self._decay, float(self.steps) / (float(self.steps) + 9))
        for average, parameter in zip(self._averages(), self._current, strict=True):
            average.lerp_(parameter, weight)

    @torch.no_grad()
    def take_over(self) -> None:
        """Sets the parameters to their averages."""
        for average, parameter in zip(self._averages(), self._current, strict=True):
            parameter.copy_(average)

    def _averages(self) -> list[Tensor]:
        return [self.get_buffer(f"average{position}") for position in range(len(self._current))]


class _Updates:
    """Parameter updates, one a call."""

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        loss: Callable[[int], Tensor],
        optimization: Optimization,
    ) -> None:
        self.optimizer = _build_optimizer(groups, optimization)
        self.average = MovingAverage(groups, optimization.average)
        self._groups = groups
        self._loss = loss
        self._optimization = optimization

    def __call__(self, step: int) -> float:
        """Updates every parameter.

        Returns:
            The loss before.

        Raises:
            FloatingPointError: if the loss, its gradient or a parameter is not finite.
        """
        optimization = self._optimization
        factor = cosine_factor(step, optimization.epochs * optimization.steps)
        for group, settings in zip(self._groups, self.optimizer.param_groups, strict=True):
            settings["lr"] = group.learning_rate * factor
        value = self._loss(step)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss is {value.item()}")
        self.optimizer.zero_grad()
        torch.autograd.backward(value)
        parameters = [parameter for group in self._groups for parameter in group.parameters]
        sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, optimization.clip or math.inf)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the norm of the gradient is {norm.item()}")
        self.optimizer.step()
        if (step + 1) % optimization.steps == 0 and not all(bool(p.isfinite().all()) for p in parameters):
            raise FloatingPointError("a parameter is not finite")  # a checkpoint of it could never go on
        self.average.update()
        return float(value.item())


def _build_optimizer(groups: Sequence[ParameterGroup], optimization: Optimization) -> Optimizer:
    parameters = [{"params": list(group.parameters), "lr": group.learning_rate} for group in groups]
    if optimization.optimizer == "sgd":
        return SGD(parameters, momentum=optimization.momentum, weight_decay=optimization.weight_decay)
    if optimization.optimizer == "rmsprop":
        return RMSprop(parameters, alpha=optimization.memory, weight_decay=optimization.weight_decay)
    return AdamW(parameters, betas=(0.9, optimization.memory), weight_decay=optimization.weight_decay)
