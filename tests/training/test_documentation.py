"""The code that docs/ show to researchers runs as it stands."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

DOCS = Path(__file__).parent.parent.parent / "docs"


def examples(page):
    """The indented blocks of a page that begin with an import of the training package."""
    blocks = re.findall(r"^    from training\..*(?:\n(?:    .*)?)*", (DOCS / page).read_text(), flags=re.M)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def pairs():
    """Linear functions of one hidden variable, paired row by row."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(256, 16, generator=generator)
    return hidden @ torch.randn(16, 24, generator=generator), hidden @ torch.randn(16, 20, generator=generator)


def test_the_objective_in_a_loop_of_ones_own(pairs):
    torch.manual_seed(0)
    x, y = pairs
    encode_x, encode_y = torch.nn.Linear(24, 16), torch.nn.Linear(20, 16)
    optimizer = torch.optim.Adam([*encode_x.parameters(), *encode_y.parameters()], lr=0.01)
    names = {"batches": [(x, y)] * 100, "encode_x": encode_x, "encode_y": encode_y, "optimizer": optimizer}
    loop, order = examples("method.md")
    exec(loop, names)
    untrained = names["objective"](torch.nn.Linear(24, 16)(x), torch.nn.Linear(20, 16)(y))
    assert names["loss"] < min(untrained, -1)
    f, g = (encode(z).detach().numpy().astype(np.float64) for encode, z in ((encode_x, x), (encode_y, y)))
    names |= {"f": f, "g": g}
    exec(order, names)
    np.testing.assert_allclose(names["f"] @ names["g"].T, f @ g.T, atol=1e-6)
    assert (np.diff(np.square(names["f"]).mean(axis=0)) < 1e-9).all()  # in order


def test_the_figures_of_arrays(capsys):
    [measure] = examples("evaluation.md")
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    sketches, photos = (np.eye(3, 8)[labels] + random.normal(size=(120, 8)) / 9 for _ in range(2))
    exec(measure, {"sketches": sketches, "photos": photos, "sketch_labels": labels, "photo_labels": labels})
    assert [float(value) for value in capsys.readouterr().out.split()] == pytest.approx([1, 1, 0.4], abs=0.02)
