"""Estimates of <f, T f> from all first derivatives, from one directional derivative, and from the Laplacian."""

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

__all__ = ["compare_derivatives"]

PROBLEM = Hydrogen()


def compare_derivatives(repetitions: int, count: int) -> None:
    """Prints the processor time of an update with ``count`` points, and the scatter of its estimates."""
    functions = ModeFunctions(PROBLEM, shared=False)
    print(f"{'':10} {'cpu ms':>7} {'scatter':>8}   forward and backward, {count} points, relative standard deviation")
    for name, way in WAYS.items():
        estimates = []
        torch.autograd.backward(way(functions, draw_points(PROBLEM, count, seed=1, step=0)).sum())  # warms up
        started = time.process_time()
        for step in range(repetitions):
            estimate = way(functions, draw_points(PROBLEM, count, seed=0, step=step))
            torch.autograd.backward(estimate.sum())
            estimates.append(estimate.detach())
        milliseconds = 1000 * (time.process_time() - started) / repetitions
        table = torch.stack(estimates)
        scatter = (table.std(dim=0, correction=0) / table.mean(dim=0).abs()).median()
        print(f"{name:10} {milliseconds:7.1f} {scatter:8.4f}")


def _by_parts(functions: ModeFunctions, points: Points) -> Tensor:
    return PROBLEM.forms(points).operator.diagonal(jet(functions, points.x))


def _direction(functions: ModeFunctions, points: Points) -> Tensor:
    angle = 2 * torch.pi * torch.rand(len(points.x))
    tangent = torch.stack([angle.cos(), angle.sin()], dim=1)
    value, slope = jvp(functions, (points.x,), (tangent,))[:2]
    radius = points.x.norm(dim=1, keepdim=True)
    return (points.weight[:, None] * (value**2 / radius - 2 * slope**2)).mean(dim=0)


def _laplacian(functions: ModeFunctions, points: Points) -> Tensor:
    value = functions(points.x)
    image = laplacian(functions, points.x) + value / points.x.norm(dim=1, keepdim=True)
    return (points.weight[:, None] * value * image).mean(dim=0)


WAYS: dict[str, Callable[[ModeFunctions, Points], Tensor]] = {
    "by parts": _by_parts,
    "direction": _direction,
    "laplacian": _laplacian,
}
