import math

import pytest
import torch

from training.operators.lattice import shifted_lattice


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_points_fill_the_cube(dimensions):
    points = shifted_lattice(200, dimensions, torch.Generator().manual_seed(0))
    assert points.shape == (200, dimensions)
    assert points.min() >= 0
    assert points.max() < 1
    for axis in points.T:
        assert torch.diff(axis.sort().values).max() < 4 / 200


def test_a_plane_lattice_turns_by_the_golden_ratio():
    points = shifted_lattice(100, 2, torch.Generator().manual_seed(0))
    steps = torch.diff(points[:, 1]) % 1
    torch.testing.assert_close(steps, torch.full_like(steps, (math.sqrt(5) - 1) / 2))


def test_means_are_unbiased_and_vary_less_than_those_of_independent_points():
    def integrand(points):
        return torch.exp(points[:, 0]) * torch.cos(points[:, 1])

    generator = torch.Generator().manual_seed(0)
    even = torch.stack([integrand(shifted_lattice(64, 2, generator)).mean() for _ in range(400)])
    independent = torch.stack([integrand(torch.rand(64, 2, generator=generator)).mean() for _ in range(400)])
    assert abs(even.mean() - (math.e - 1) * math.sin(1)) < 4 * even.std() / 20
    assert even.std() < independent.std() / 5
