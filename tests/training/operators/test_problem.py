import torch

from training.operators.jets import Jet, jet
from training.operators.problem import Forms, QuadraticForm

X = torch.rand(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FORM = QuadraticForm(value=X[:, 0] + 1, gradient=X[:, 1] + 2)


def functions(x):
    return torch.stack([x[:, 0] * x[:, 1], torch.sin(x[:, 0]), x[:, 1] ** 2], dim=1)


def test_a_form_is_the_mean_of_products():
    values = jet(functions, X)
    f, g = values.value[:, 1], values.value[:, 2]
    slopes = (values.gradient[:, :, 1] * values.gradient[:, :, 2]).sum(dim=0)
    expected = ((X[:, 0] + 1) * f * g + (X[:, 1] + 2) * slopes).mean()
    torch.testing.assert_close(FORM.matrix(values, values)[1, 2], expected)


def test_diagonal_and_samples_agree_with_the_matrix():
    values = jet(functions, X)
    for form in (FORM, FORM._replace(gradient=None), FORM._replace(value=None)):
        matrix = form.matrix(values, values)
        torch.testing.assert_close(form.diagonal(values), matrix.diagonal())
        rows = form.samples(values)
        torch.testing.assert_close(rows.T @ rows / len(rows), matrix)


def test_parts_average_to_the_whole():
    values = jet(functions, X)
    halves = (slice(None, 5), slice(5, None))
    parts = [FORM.part(half).matrix(values.rows(half), values.rows(half)) for half in halves]
    torch.testing.assert_close(sum(parts) / 2, FORM.matrix(values, values))


def test_the_left_argument_may_be_fixed():
    value = torch.rand(10, 2, dtype=torch.float64, requires_grad=True)
    moving = Jet(value, torch.zeros(2, 10, 2, dtype=torch.float64))
    form = QuadraticForm(torch.ones(10, dtype=torch.float64), None)
    slope = torch.autograd.grad(form.matrix(moving.detach(), moving)[0, 1], value)[0]
    torch.testing.assert_close(slope[:, 1], value[:, 0].detach() / 10)
    assert (slope[:, 0] == 0).all()


def test_a_shift_adds_the_metric_to_the_operator():
    values = jet(functions, X)
    metric = FORM._replace(gradient=None)
    for operator in (FORM, FORM._replace(value=None)):
        shifted = Forms(operator, metric).shifted(0.5)
        expected = operator.matrix(values, values) + 0.5 * metric.matrix(values, values)
        torch.testing.assert_close(shifted.operator.matrix(values, values), expected)
        assert shifted.metric is metric
