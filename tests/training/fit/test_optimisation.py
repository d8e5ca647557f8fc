"""The training loop: resumption, averages, schedules, and what is said when a loss diverges."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.base.errors import DivergenceError
from training.fit.checkpoints import Progress, load_checkpoint
from training.fit.optimisation import MovingAverage, Optimization, ParameterGroup, cosine_factor, minimise
from training.model.tensors import load_tensors


class Problem:
    """Least squares on points that depend on the step alone; two groups with rates of their own."""

    def __init__(self, **choices) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.groups = [
            ParameterGroup(list(layer.parameters()), rate)
            for layer, rate in ((self.module[0], 0.05), (self.module[2], 0.01))
        ]
        self.optimization = Optimization(**({"epochs": 4, "steps": 5} | choices))
        self.replaced: dict[int, Callable[[], Tensor]] = {}  # losses of single steps

    def loss(self, step: int) -> Tensor:
        if step in self.replaced:
            return self.replaced[step]()
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        return ((self.module(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()

    def minimise(self, path: Path, **options):
        options = {"checkpoint": path, "fingerprint": "x"} | options
        return minimise(self.module, self.groups, self.loss, self.optimization, **options)

    def spoil(self, value: float) -> None:
        with torch.no_grad():
            self.module[2].bias.fill_(value)


def interrupt() -> Tensor:
    raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("step", [5, 12])  # the first of an epoch, and in the middle of one
def test_an_interrupted_training_goes_on_to_the_same_parameters(tmp_path, optimizer, average, step):
    whole = Problem(optimizer=optimizer, average=average)
    expected = whole.minimise(tmp_path / "whole")
    stopped = Problem(optimizer=optimizer, average=average)
    stopped.replaced[step] = interrupt
    with pytest.raises(KeyboardInterrupt):
        stopped.minimise(tmp_path / "stopped")
    resumed = Problem(optimizer=optimizer, average=average)
    resumed.spoil(9.0)  # whatever it starts from, the checkpoint counts
    history = resumed.minimise(tmp_path / "stopped")
    assert [record.loss for record in history] == [record.loss for record in expected]
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor), name


def test_a_finished_training_is_restored_and_not_gone_on_with(tmp_path):
    first, second = Problem(average=0.5), Problem(average=0.5)
    history = first.minimise(tmp_path / "checkpoint")
    second.replaced = dict.fromkeys(range(20), interrupt)
    assert second.minimise(tmp_path / "checkpoint") == history
    assert torch.equal(second.module[0].weight, first.module[0].weight)


def test_no_epochs_train_nothing(tmp_path):
    problem = Problem(epochs=0)
    before = problem.module[0].weight.clone()
    assert problem.minimise(tmp_path / "checkpoint") == []
    assert torch.equal(problem.module[0].weight, before)


def test_training_lowers_the_loss(tmp_path):
    history = Problem(epochs=10, steps=20).minimise(tmp_path / "checkpoint")
    assert history[-1].loss < history[0].loss / 2
    assert [record.epoch for record in history] == list(range(1, 11))


def test_the_history_is_told_after_every_epoch(tmp_path):
    lengths = []
    Problem().minimise(tmp_path / "checkpoint", on_epoch=lambda records: lengths.append(len(records)))
    assert lengths == [1, 2, 3, 4]


def test_the_average_weighs_the_past_as_documented():
    parameter = nn.Parameter(torch.zeros(2))
    average = MovingAverage([ParameterGroup([parameter], 0.1)], 0.8)
    expected = 0.0
    for step in range(1, 60):
        with torch.no_grad():
            parameter.fill_(float(step % 7))
        average.update()
        past = min(0.8, step / (step + 9))
        expected = past * expected + (1 - past) * (step % 7)
    average.take_over()
    torch.testing.assert_close(parameter.detach(), torch.full((2,), expected))


def test_without_a_decay_there_is_no_average():
    parameter = nn.Parameter(torch.ones(2))
    average = MovingAverage([ParameterGroup([parameter], 0.1)], 0.0)
    average.update()
    average.take_over()
    assert parameter.tolist() == [1, 1]
    assert [name for name, _ in average.named_buffers()] == ["steps"]


def test_the_parameters_end_as_their_average(tmp_path):
    plain, averaged = Problem(optimizer="sgd"), Problem(optimizer="sgd", average=0.9)
    plain.minimise(tmp_path / "plain")
    averaged.minimise(tmp_path / "averaged")
    tensors = load_tensors(tmp_path / "averaged")
    assert torch.equal(tensors["module.module.0.weight"], plain.module[0].weight)  # training itself is not changed
    assert torch.equal(averaged.module[0].weight, tensors["module.average.average0"])
    assert not torch.equal(averaged.module[0].weight, plain.module[0].weight)


@pytest.mark.parametrize("total", [1, 2, 19, 20, 100, 1001])
def test_the_rate_is_warmed_up_and_falls_to_zero(total):
    factors = [cosine_factor(step, total) for step in range(total)]
    warmup = max(1, total // 20)
    assert factors[0] == 1 / warmup
    assert max(factors) == factors[warmup - 1] == 1
    assert factors[warmup - 1 :] == sorted(factors[warmup - 1 :], reverse=True)
    assert all(0 < factor <= 1 for factor in factors)
    if total > 1:
        assert cosine_factor(total, total) == pytest.approx(0, abs=1e-12)


def test_a_group_has_the_rate_of_its_own(tmp_path):
    problem = Problem(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0, epochs=1, steps=1)
    before = [layer.weight.detach().clone() for layer in (problem.module[0], problem.module[2])]
    problem.loss(0).backward()
    gradients = [layer.weight.grad.clone() for layer in (problem.module[0], problem.module[2])]
    problem.minimise(tmp_path / "checkpoint")
    for layer, start, gradient, rate in zip((0, 2), before, gradients, (0.05, 0.01), strict=True):
        torch.testing.assert_close(problem.module[layer].weight.detach(), start - rate * gradient)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_gradients_are_clipped_to_a_norm(tmp_path, clip):
    problem = Problem(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=clip, epochs=1, steps=1)
    problem.groups = [ParameterGroup(list(problem.module.parameters()), 1.0)]
    before = nn.utils.parameters_to_vector(problem.module.parameters()).detach().clone()
    problem.loss(0).backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in problem.module.parameters()]))
    problem.minimise(tmp_path / "checkpoint")
    moved = float((nn.utils.parameters_to_vector(problem.module.parameters()).detach() - before).norm())
    assert moved == pytest.approx(0.01 if clip == 0.01 else norm, rel=1e-3)


@pytest.mark.parametrize("what", ["the loss is nan", "the loss is inf", "the norm of the gradient is nan"])
def test_a_loss_that_diverges_says_at_which_step_and_which_checkpoint_is_left(tmp_path, what):
    path = tmp_path / "checkpoint.safetensors"
    problem = Problem()
    bias = problem.module[2].bias
    losses = {
        "the loss is nan": lambda: bias.sum() * math.nan,
        "the loss is inf": lambda: bias.sum().abs() * math.inf,
        "the norm of the gradient is nan": lambda: (bias - bias.detach()).abs().sum().sqrt(),
    }
    problem.replaced[13] = losses[what]
    with pytest.raises(DivergenceError) as caught:
        problem.minimise(path)
    assert str(caught.value) == (
        f"{what} at step 13 of epoch 3: lower the learning rate and give another --out; "
        f"the checkpoint of epoch 2 is kept in {path}"
    )
    fresh = Problem()
    optimizer = torch.optim.AdamW([{"params": group.parameters} for group in fresh.groups])
    state = nn.ModuleDict({"module": fresh.module, "average": MovingAverage(fresh.groups, 0.0)})
    progress = load_checkpoint(path, state, optimizer, "x")
    assert isinstance(progress, Progress)
    assert len(progress.history) == 2
    assert all(tensor.isfinite().all() for tensor in load_tensors(path).values())


def test_parameters_that_diverge_in_the_last_step_of_an_epoch_leave_no_checkpoint(tmp_path):
    problem = Problem(optimizer="sgd", clip=0.0, epochs=2, steps=1)
    problem.groups = [ParameterGroup(list(problem.module.parameters()), 1e38)]
    problem.replaced[0] = lambda: 1e3 * problem.module[0].weight.sum()
    with pytest.raises(DivergenceError, match=r"a parameter is not finite at step 0 of epoch 1.*no epoch was finished"):
        problem.minimise(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_loss_that_is_not_defined_any_more_diverges(tmp_path):
    problem = Problem()

    def undefined() -> Tensor:
        raise FloatingPointError("the outputs are linearly dependent")

    problem.replaced[6] = undefined
    with pytest.raises(DivergenceError, match=r"the outputs are linearly dependent at step 6 of epoch 2"):
        problem.minimise(tmp_path / "checkpoint")
