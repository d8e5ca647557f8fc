"""The examples in docstrings run and give what they say."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("module", "examples"),
    [
        ("training.data.relevance", 1),
        ("training.evaluation.figures", 4),
        ("training.fit.losses", 10),
        ("training.model.canonical", 3),
        ("training.model.encoders", 6),
        ("training.model.truncation", 1),
    ],
)
def test_examples(module: str, examples: int) -> None:
    results = doctest.testmod(import_module(module))
    assert results.failed == 0
    assert results.attempted == examples
