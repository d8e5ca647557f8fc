import shutil

import pytest
import torch

from training.base.errors import CheckpointError
from training.fit.losses import Nesting
from training.fit.optimisation import Optimization
from training.operators.langevin import Langevin
from training.operators.networks import ModeFunctions
from training.operators.objectives import Method, build_objective
from training.operators.potentials import Potential
from training.operators.solving import draw_points, solve

PROBLEM = Langevin(Potential.DOUBLE_WELL, 2)


class KilledError(Exception):
    """Stands for a kill after an epoch."""


def run(folder, method=Method.NESTED_LORA, *, kill_after=None, fingerprint="x", shift=0.5, optimizer="adamw"):
    functions = ModeFunctions(PROBLEM, shared=False, width=8, depth=2, fourier=4)

    def on_epoch(history):
        if len(history) == kill_after:
            raise KilledError

    training = solve(
        PROBLEM,
        functions,
        build_objective(method, PROBLEM, Nesting.SEQUENTIAL),
        Optimization(epochs=4, steps=5, optimizer=optimizer, weight_decay=0.0, memory=0.9, average=0.9),
        batch_size=32,
        learning_rate=0.01,
        seed=0,
        shift=shift,
        checkpoint=folder / "checkpoint.safetensors",
        fingerprint=fingerprint,
        on_epoch=on_epoch,
    )
    return functions.state_dict(), training


@pytest.mark.parametrize(
    ("method", "optimizer"), [*((method, "adamw") for method in Method), (Method.NESTED_LORA, "rmsprop")]
)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, method, optimizer):
    expected, whole = run(tmp_path / "whole", method, optimizer=optimizer)
    with pytest.raises(KilledError):
        run(tmp_path / "parts", method, optimizer=optimizer, kill_after=2)
    resumed, parts = run(tmp_path / "parts", method, optimizer=optimizer)
    assert [record.loss for record in parts.history] == [record.loss for record in whole.history]
    for name, tensor in expected.items():
        assert torch.equal(resumed[name], tensor), name
    assert parts.cpu_seconds > 0


def test_a_finished_run_is_not_trained_again(tmp_path):
    expected, first = run(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    again, second = run(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before
    assert second == first
    for name, tensor in expected.items():
        assert torch.equal(again[name], tensor), name


def test_another_runs_checkpoint_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        run(tmp_path, fingerprint="y")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run(tmp_path)
    shutil.copyfile(__file__, tmp_path / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path)


def test_optimisers_differ(tmp_path):
    adam, rmsprop = (run(tmp_path / name, optimizer=name)[1].history[-1].loss for name in ("adamw", "rmsprop"))
    assert adam != rmsprop


def test_training_lowers_the_loss(tmp_path):
    history = run(tmp_path, shift=0.0)[1].history
    assert history[-1].loss < history[0].loss - 0.1


def test_points_depend_on_seed_and_step_alone():
    first, again = (draw_points(PROBLEM, 64, seed=1, step=7) for _ in range(2))
    assert torch.equal(first.x, again.x)
    assert first.x.dtype == first.weight.dtype == torch.float32
    for seed, step in ((1, 8), (2, 7)):
        assert not torch.equal(first.x, draw_points(PROBLEM, 64, seed=seed, step=step).x)


def test_halves_are_lattices_of_their_own():
    points = draw_points(PROBLEM, 64, seed=1, step=0)
    assert not torch.isclose(points.x[:32].sort(dim=0).values, points.x[32:].sort(dim=0).values).all()
