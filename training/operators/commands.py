"""The commands of the operators: ``svdraw operators hydrogen`` and ``svdraw operators langevin``."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from training.base.command_line import Many, Options
from training.operators.hydrogen import Hydrogen
from training.operators.langevin import Langevin
from training.operators.lobpcg import solve_hydrogen
from training.operators.objectives import Method
from training.operators.plots import plot_cost, plot_errors, plot_modes
from training.operators.potentials import Potential
from training.operators.problem import Problem
from training.operators.runs import FOURIER_SCALE, SHIFT, Report, Solver, run_solver, write_report

EvenNumber = Annotated[int, Field(ge=8, multiple_of=2)]

__all__ = ["HydrogenCommand", "LangevinCommand", "hydrogen", "langevin"]


class _Command(Solver):
    """The options that both problems share."""

    out: Path = Field(description="folder of the runs, the report and its figures")
    methods: Many[Method] = Field(
        [Method.NESTED_LORA],
        min_length=1,
        description="objectives to compare, joined by commas",
    )
    seed: int = Field(0, ge=0, description="first random seed of networks and points")
    seeds: int = Field(1, ge=1, description="number of runs of each objective, with consecutive seeds")

    @abstractmethod
    def problem(self) -> Problem:
        """The problem to solve."""

    def solve(self) -> Report:
        """Trains and evaluates all runs, and writes the report and its figures.

        Raises:
            CheckpointError: if a run cannot be resumed.
            DivergenceError: if a run diverges.
        """
        solver = Solver(**self.model_dump(include=set(Solver.model_fields)))
        problem = self.problem()
        reference = problem.reference()
        runs = [
            run_solver(problem, reference, solver, method, seed, self.out)
            for method in self.methods
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        costs = [solve_hydrogen(cells, reference.eigenvalues) for cells in self.grids()]
        report = write_report(self.out / "report.json", problem, reference, solver, runs, costs)
        plot_modes(self.out / "modes.png", problem, runs[0], reference)
        plot_errors(self.out / "errors.png", report)
        if costs:
            plot_cost(self.out / "cost.png", report)
        return report

    def grids(self) -> Sequence[int]:
        """Numbers of points along each axis of the grids that LOBPCG solves for comparison."""
        return ()


class HydrogenCommand(_Command):
    """Options of ``svdraw operators hydrogen``."""

    shift: float = Field(0.1, ge=0, description=SHIFT)
    lobpcg: Many[EvenNumber] = Field(
        [],
        description="grids that LOBPCG solves for comparison: even numbers of points per axis, joined by commas",
    )

    def problem(self) -> Hydrogen:
        """The hydrogen atom."""
        return Hydrogen()

    def grids(self) -> Sequence[int]:
        """Numbers of points along each axis of the grids that LOBPCG solves for comparison."""
        return self.lobpcg


class LangevinCommand(_Command):
    """Options of ``svdraw operators langevin``."""

    potential: Potential = Field(Potential.DOUBLE_WELL, description="energy landscape of the dynamics")
    fourier_scale: float = Field(3.0, gt=0, description=FOURIER_SCALE)

    def problem(self) -> Langevin:
        """The Langevin dynamics in the chosen potential."""
        return Langevin(self.potential)


def hydrogen(*, settings: Options[HydrogenCommand]) -> None:
    """Solves the hydrogen atom in two dimensions."""
    print(_summary(settings.solve()))


def langevin(*, settings: Options[LangevinCommand]) -> None:
    """Finds the slowest modes of overdamped Langevin dynamics."""
    print(_summary(settings.solve()))


def _summary(report: Report) -> str:
    header = f"{'':24} {'median error':>12} {'largest':>9} {'distance':>9} {'overlap':>9} {'cpu s':>7}"
    lines = [report.problem, header]
    for run in report.runs:
        for name, figures in ((f"{run.method}, seed {run.seed}", run.learned), ("  with Rayleigh-Ritz", run.ritz)):
            distance = max(figures.subspace_distances)
            lines.append(
                f"{name:24} {figures.median_error:12.2e} {figures.largest_error:9.2e} {distance:9.4f} "
                f"{figures.overlap:9.5f} {run.cpu_seconds:7.0f}"
            )
    for cost in report.lobpcg:
        name = f"LOBPCG, {cost.cells} x {cost.cells}"
        lines.append(f"{name:24} {cost.median_error:12.2e} {cost.largest_error:9.2e} {'':19} {cost.cpu_seconds:7.0f}")
    return "\n".join(lines)
