import numpy as np
import pytest

from training.data.pairs import load_data
from training.data.relevance import class_relevance, same_label


@pytest.fixture
def table(tmp_path):
    """Two owls and a fox, each drawn twice; the second owl is a bird as well."""
    rows = ["owl1,a,owl", "owl2,a,owl", "owl3,b,owl", "owl4,b,owl", "fox1,c,fox", "fox2,c,fox", "owl4,b,bird"]
    (tmp_path / "pairs.csv").write_text("\n".join(["sketch,photo,class", *rows]))
    return tmp_path / "pairs.csv"


def test_every_photo_of_the_class_is_relevant_not_that_of_the_row_alone(table):
    data = load_data(table)
    assert [file.name for file in data.photos] == ["a", "b", "c"]
    relevant = class_relevance(data).toarray()
    assert [file.name for file in data.sketches] == ["fox1", "fox2", "owl1", "owl2", "owl3", "owl4"]
    np.testing.assert_array_equal(relevant, [[0, 0, 1]] * 2 + [[1, 1, 0]] * 4)


def test_without_classes_the_photo_of_the_row_alone_is_relevant(tmp_path):
    (tmp_path / "pairs.csv").write_text("sketch,photo\n1,a\n2,b\n3,b\n")
    relevance = class_relevance(load_data(tmp_path / "pairs.csv"))
    np.testing.assert_array_equal(relevance.toarray(), [[1, 0], [0, 1], [0, 1]])
    assert relevance.has_single_photos


def test_parts_of_it():
    relevance = same_label([1, 2, 3], [2, 2, 1, 7])
    assert not relevance.has_single_photos
    np.testing.assert_array_equal(relevance.is_found, [True, True, False])
    np.testing.assert_array_equal(relevance[1:].toarray(), [[1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(relevance[[0]].among(np.array([2, 0])).toarray(), [[1, 0]])


def test_a_million_photos_need_no_pairs():
    count = 1_000_000
    relevance = same_label(np.arange(count) % 125, np.arange(count) % 125)
    for side in (relevance.sketches, relevance.photos):
        assert side.data.nbytes + side.indices.nbytes + side.indptr.nbytes < 20 * count
    assert relevance[:2].toarray().sum() == 2 * count // 125
