"""Three ways to estimate <f, T f> of the hydrogen atom: what an update costs and how far its estimates scatter.

by parts    integral of f^2/r - |grad f|^2, first derivatives only
direction   the same with the slope along one random direction, squared and doubled
laplacian   integral of f (laplacian f + f/r), second derivatives

    python bench/operator_derivatives.py [repetitions]
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

from training.operators.hydrogen import Hydrogen
from training.operators.jets import jet, laplacian
from training.operators.networks import ModeFunctions
from training.operators.problem import Points
from training.operators.solving import draw_points

PROBLEM = Hydrogen()
BATCH = 512


def by_parts(functions: ModeFunctions, points: Points) -> Tensor:
    return PROBLEM.forms(points).operator.diagonal(jet(functions, points.x))


def direction(functions: ModeFunctions, points: Points) -> Tensor:
    angle = 2 * torch.pi * torch.rand(len(points.x))
    tangent = torch.stack([angle.cos(), angle.sin()], dim=1)
    value, slope = jvp(functions, (points.x,), (tangent,))[:2]
    radius = points.x.norm(dim=1, keepdim=True)
    return (points.weight[:, None] * (value**2 / radius - 2 * slope**2)).mean(dim=0)


def exact_laplacian(functions: ModeFunctions, points: Points) -> Tensor:
    value = functions(points.x)
    image = laplacian(functions, points.x) + value / points.x.norm(dim=1, keepdim=True)
    return (points.weight[:, None] * value * image).mean(dim=0)


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    functions = ModeFunctions(PROBLEM, shared=False)
    ways: dict[str, Callable[[ModeFunctions, Points], Tensor]] = {
        "by parts": by_parts,
        "direction": direction,
        "laplacian": exact_laplacian,
    }
    print(f"{'':10} {'cpu ms':>7} {'scatter':>8}   forward and backward, {BATCH} points, relative standard deviation")
    for name, way in ways.items():
        estimates = []
        torch.autograd.backward(way(functions, draw_points(PROBLEM, BATCH, seed=1, step=0)).sum())  # warms up
        started = time.process_time()
        for step in range(repetitions):
            estimate = way(functions, draw_points(PROBLEM, BATCH, seed=0, step=step))
            torch.autograd.backward(estimate.sum())
            estimates.append(estimate.detach())
        milliseconds = 1000 * (time.process_time() - started) / repetitions
        table = torch.stack(estimates)
        scatter = (table.std(dim=0) / table.mean(dim=0).abs()).median()
        print(f"{name:10} {milliseconds:7.1f} {scatter:8.4f}")


if __name__ == "__main__":
    main()
