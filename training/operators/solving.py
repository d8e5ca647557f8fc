"""Trains the modes of one problem by one method."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.fit.checkpoints import EpochRecord
from training.fit.optimisation import Optimization, ParameterGroup, minimise
from training.operators.jets import jet
from training.operators.lattice import shifted_lattice
from training.operators.networks import ModeFunctions
from training.operators.objectives import Objective
from training.operators.problem import Points, Problem

_SEED_STRIDE = 100_000_007  # larger than the number of steps of any run

__all__ = ["Training", "draw_points", "solve"]


class Training(NamedTuple):
    """Record of a training.

    Attributes:
        history: one record per epoch.
        cpu_seconds: processor time of all cores, in seconds, over all sessions of a resumed run.
    """

    history: list[EpochRecord]
    cpu_seconds: float


def solve(
    problem: Problem,
    functions: ModeFunctions,
    objective: Objective,
    optimization: Optimization,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    shift: float,
    checkpoint: Path,
    fingerprint: str,
    on_epoch: Callable[[list[EpochRecord]], None] | None = None,
) -> Training:
    """Trains ``functions`` in place; continues from the checkpoint if there is one.

    Args:
        problem: the problem to solve.
        functions: networks to train.
        objective: objective to minimise.
        optimization: settings of the optimiser.
        batch_size: points per step, in two independent halves.
        learning_rate: peak learning rate.
        seed: random seed of the points.
        shift: multiple of the identity that is added to T at first. Without it, untrained functions with much kinetic
                energy would shrink to zero, where the objective is flat. It falls to 0 over the first third of the
                steps.
        checkpoint: file that is written after every epoch.
        fingerprint: identifies the settings of the run.
        on_epoch: called with the history after every epoch.

    Raises:
        CheckpointError: if the checkpoint is damaged or belongs to another run.
        DivergenceError: if the training diverges.
    """
    clock = _Clock()

    def loss(step: int) -> Tensor:
        clock.tick()
        points = draw_points(problem, batch_size, seed, step)
        values = jet(functions, points.x)
        if problem.constant_mode:
            values = values.with_constant()
        left = max(0.0, 1 - 3 * step / (optimization.epochs * optimization.steps))
        value: Tensor = objective(values, problem.forms(points).shifted(shift * left))
        return value

    history = minimise(
        nn.ModuleDict({"functions": functions, "objective": objective, "clock": clock}),
        [ParameterGroup(list(functions.parameters()), learning_rate)],
        loss,
        optimization,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_epoch=on_epoch,
    )
    return Training(history, float(clock.seconds))


def draw_points(problem: Problem, count: int, seed: int, step: int) -> Points:
    """Draws the points of a step: two lattices with separate shifts, one after the other.

    Args:
        problem: the problem, which defines the distribution of points.
        count: total number of points; an even number.
        seed: random seed of the run.
        step: number of the step; the same step gets the same points.

    Returns:
        The points, in single precision.
    """
    generator = torch.Generator().manual_seed((seed * _SEED_STRIDE + step) % 2**32)  # it uses 32 bits only
    uniform = torch.cat([shifted_lattice(count // 2, problem.dimensions, generator) for _ in range(2)])
    points = problem.sample(uniform)
    return Points(points.x.float(), points.weight.float())


class _Clock(nn.Module):
    """Processor time of a run, which, unlike wall-clock time, does not depend on other work on the machine."""

    seconds: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seconds", torch.zeros((), dtype=torch.float64))
        self._last: float | None = None

    def tick(self) -> None:
        """Adds the time since the last tick of this session."""
        now = time.process_time()
        if self._last is not None:
            self.seconds += now - self._last
        self._last = now
