"""Solves a problem by several methods from several seeds, and reports the results."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from numpy.linalg import LinAlgError
from pydantic import BaseModel, ConfigDict, Field

from training.base.artifacts import write_text
from training.base.errors import DivergenceError
from training.fit.losses import Nesting
from training.fit.optimisation import Optimization
from training.fit.run_log import RunLog
from training.operators.evaluation import Accuracy, Evaluation, evaluate_modes
from training.operators.lobpcg import GridCost
from training.operators.networks import ModeFunctions
from training.operators.objectives import Method, build_objective
from training.operators.problem import Problem, Reference
from training.operators.solving import solve

__all__ = ["FOURIER_SCALE", "SHIFT", "Report", "Solved", "Solver", "run_solver", "write_report"]

logger = logging.getLogger(__name__)

_EPOCHS = 20  # epochs of a run; each writes a checkpoint
FOURIER_SCALE = "standard deviation of the frequencies of the Fourier features"
SHIFT = "multiple of the identity added to the operator at first; it falls to 0 over a third of the updates"
_WIDTH_EACH, _WIDTH_SHARED = 32, 128


class Solver(BaseModel):
    """How modes are represented and learned. The defaults are the settings that measured best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nesting: Nesting = Field(
        Nesting.SEQUENTIAL, description="how modes are ordered; sequential gives every mode a network of its own"
    )
    width: int | None = Field(
        None,
        ge=1,
        description="width of hidden layers; if left out, 32 for a network per mode and 128 for a shared one",
    )
    depth: int = Field(3, ge=1, description="number of hidden layers")
    fourier: int = Field(16, ge=0, description="number of random Fourier features of the input")
    fourier_scale: float = Field(1.0, gt=0, description=FOURIER_SCALE)
    steps: int = Field(4000, ge=_EPOCHS, multiple_of=_EPOCHS, description=f"updates, a multiple of {_EPOCHS}")
    batch_size: int = Field(512, ge=4, multiple_of=2, description="points of an update, an even number")
    optimizer: Literal["adamw", "rmsprop"] = Field("adamw", description="optimiser; adamw runs without weight decay")
    learning_rate: float = Field(0.008, gt=0, description="peak learning rate")
    shift: float = Field(0.0, ge=0, description=SHIFT)
    memory: float = Field(0.9, ge=0, lt=1, description="decay of the optimiser's mean squared gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the moving average of parameters; 0: no average")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")


class Result(BaseModel):
    """Results of one run.

    Attributes:
        method: method of the run.
        seed: random seed of networks and points.
        parameters: number of trained parameters.
        seconds: wall-clock time, in seconds.
        cpu_seconds: processor time of all cores, in seconds; other work on the machine does not change it.
        learned: errors of the modes as learned.
        ritz: errors after a Rayleigh-Ritz step within their span.
        sign_agreement: see ``Evaluation``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    seed: int
    parameters: int
    seconds: float
    cpu_seconds: float
    learned: Accuracy
    ritz: Accuracy
    sign_agreement: list[float]


class Report(BaseModel):
    """All results for one problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str
    solver: Solver
    eigenvalues: list[float]
    reference_error: float
    runs: list[Result]
    lobpcg: list[GridCost] = []


class Solved(NamedTuple):
    """A finished run: its results, and its functions for plots."""

    result: Result
    functions: ModeFunctions
    evaluation: Evaluation


def run_solver(problem: Problem, reference: Reference, solver: Solver, method: Method, seed: int, out: Path) -> Solved:
    """Trains and evaluates one method from one seed; continues from the run's checkpoint if there is one.

    Args:
        problem: the problem to solve.
        reference: its exact modes.
        solver: how modes are represented and learned.
        method: method of the run.
        seed: random seed of networks and points.
        out: folder of all runs; this run gets a folder inside it.

    Raises:
        CheckpointError: if the folder holds a run with other settings.
        DivergenceError: if the training diverges.
    """
    shared = solver.nesting is not Nesting.SEQUENTIAL
    functions = ModeFunctions(
        problem,
        shared=shared,
        width=solver.width or (_WIDTH_SHARED if shared else _WIDTH_EACH),
        depth=solver.depth,
        fourier=solver.fourier,
        fourier_scale=solver.fourier_scale,
        seed=seed,
    )
    objective = build_objective(method, problem, solver.nesting)
    folder = out / f"{method}-{seed}"
    log = RunLog(folder)
    logger.info("%s, seed %d", method, seed)
    training = solve(
        problem,
        functions,
        objective,
        Optimization(
            epochs=_EPOCHS,
            steps=solver.steps // _EPOCHS,
            optimizer=solver.optimizer,
            weight_decay=0.0,
            memory=solver.memory,
            clip=solver.clip,
            average=solver.average,
        ),
        batch_size=solver.batch_size,
        learning_rate=solver.learning_rate,
        seed=seed,
        shift=solver.shift,
        checkpoint=folder / "checkpoint.safetensors",
        fingerprint=hashlib.sha256(f"{problem.name} {method} {seed} {solver.model_dump_json()}".encode()).hexdigest(),
        on_epoch=lambda history: log.write("solve", history),
    )
    try:
        evaluation = evaluate_modes(problem, functions, objective, reference)
    except (FloatingPointError, LinAlgError) as error:
        raise DivergenceError(
            f"{method}, seed {seed}: the modes cannot be computed from the outputs ({error}); "
            "lower the learning rate and give another --out"
        ) from error
    result = Result(
        method=method,
        seed=seed,
        parameters=sum(parameter.numel() for parameter in functions.parameters()),
        seconds=sum(record.seconds for record in training.history),
        cpu_seconds=training.cpu_seconds,
        learned=evaluation.learned,
        ritz=evaluation.ritz,
        sign_agreement=evaluation.sign_agreement.tolist(),
    )
    return Solved(result, functions, evaluation)


def write_report(
    path: Path,
    problem: Problem,
    reference: Reference,
    solver: Solver,
    runs: Sequence[Solved],
    lobpcg: Sequence[GridCost] = (),
) -> Report:
    """Writes all results as JSON."""
    report = Report(
        problem=problem.name,
        solver=solver,
        eigenvalues=reference.eigenvalues.tolist(),
        reference_error=reference.error,
        runs=[run.result for run in runs],
        lobpcg=list(lobpcg),
    )
    write_text(path, report.model_dump_json(indent=2) + "\n")
    return report
