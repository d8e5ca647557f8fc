import json
import shutil

import numpy as np
import pytest

from training.base.errors import DataError, SplitError
from training.data.pairs import load_data
from training.data.splits import hold_out, load_split


def test_folders_become_groups(shapes):
    data = load_data(shapes)
    assert data.classes == ("circle", "line", "square", "triangle")
    assert (len(data.sketches), len(data.photos)) == (24, 24)
    assert all(data.sketches[row].parent.name == group.label for group in data.groups for row in group.sketches)
    incidence = data.sketch_incidence().toarray()
    np.testing.assert_allclose(incidence.sum(1), 1)
    np.testing.assert_allclose(data.weights, 0.25)


def test_selection_renumbers_files(shapes):
    part = load_data(shapes).select(["line", "triangle"])
    assert part.classes == ("line", "triangle")
    assert len(part.sketches) == 12
    assert all(part.photos[row].parent.name == group.label for group in part.groups for row in group.photos)


def test_without_drops_files_and_then_groups(shapes):
    data = load_data(shapes)
    circle = next(group for group in data.groups if group.label == "circle")
    left = data.without([0], circle.photos)
    assert left.classes == ("line", "square", "triangle")
    assert len(left.photos) == 18


def test_without_needs_two_groups(shapes):
    data = load_data(shapes)
    with pytest.raises(DataError, match="fewer than two"):
        data.without(range(6, 24), [])


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_tables_of_pairs(tmp_path, name):
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    table = pyarrow.table(
        {"sketch": ["a.png", "b.png", "c.png"], "photo": ["1.jpg", "1.jpg", "2.jpg"], "weight": [1.0, 2.0, 1.0]}
    )
    write = pyarrow.csv.write_csv if name.endswith("csv") else pyarrow.parquet.write_table
    write(table, tmp_path / name)
    data = load_data(tmp_path / name)
    assert data.sketches == tuple(tmp_path / f"{stem}.png" for stem in "abc")
    assert [group.label for group in data.groups] == ["1.jpg", "1.jpg", "2.jpg"]
    np.testing.assert_allclose(data.weights, [0.25, 0.5, 0.25])
    relevance = (data.sketch_incidence().T @ data.photo_incidence()).toarray() > 0
    np.testing.assert_array_equal(relevance, [[True, False], [True, False], [False, True]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sketch,image\na,b\n", "no column 'photo'"),
        ("sketch,photo\n", "no rows"),
        ("sketch,photo,weight\na,b,-1\n", "row 1: weight"),
        ("sketch,photo\na,\nb,c\n", "row 1: photo"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_data(path)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"not a folder; --data needs"):
        load_data(tmp_path / "nowhere")


def test_bad_folders_say_what_to_change(shapes, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(shapes, root)
    (root / "photo" / "moon").mkdir()
    with pytest.raises(DataError, match=r"empty: .*moon"):
        load_data(root)
    shutil.rmtree(root / "photo" / "moon")
    shutil.rmtree(root / "sketch" / "line")
    with pytest.raises(DataError, match=r"'line' is in .*photo but not in .*sketch"):
        load_data(root)
    for side in ("sketch", "photo"):
        for label in ("line", "square", "triangle"):
            shutil.rmtree(root / side / label, ignore_errors=True)
    with pytest.raises(DataError, match=r"one class only \(circle\)"):
        load_data(root)


def test_sketchy_split_is_the_published_draw():
    classes = [f"class{number:03d}" for number in range(125)]
    split = load_split("sketchy-1", classes)
    assert (len(split.seen), len(split.unseen)) == (100, 25)
    state = np.random.RandomState(0)
    assert set(split.seen) == set(state.choice(classes, 100, replace=False))
    with pytest.raises(SplitError, match="names 21 classes the data set lacks"):
        load_split("sketchy-2", classes)


def test_split_files(tmp_path):
    classes = ["a", "b", "c", "d"]
    listed, spelled = tmp_path / "unseen.txt", tmp_path / "split.json"
    listed.write_text("d\n")
    spelled.write_text(json.dumps({"seen": ["a", "b"], "unseen": ["c"]}))
    assert load_split(str(listed), classes) == (("a", "b", "c"), ("d",))
    assert load_split(str(spelled), classes) == (("a", "b"), ("c",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seen": ["a", "b"], "unseen": ["a"]}', "as seen and as unseen"),
        ('{"seen": ["a", "b"], "unseen": ["z"]}', "'z' among them"),
        ('{"seen": ["a", "b"]}', "must hold"),
        ('{"seen"', "must hold"),
        ("", "no class unseen"),
        ("a\nb\nc\n", "1 seen classes"),
    ],
)
def test_bad_split_files(tmp_path, text, message):
    path = tmp_path / "split"
    path.write_text(text)
    with pytest.raises(SplitError, match=message):
        load_split(str(path), ["a", "b", "c", "d"])


def test_unknown_split():
    with pytest.raises(SplitError, match="neither sketchy-1"):
        load_split("sketchy-3", ["a", "b", "c"])


def test_hold_out_is_seeded_and_leaves_two():
    classes = [str(number) for number in range(10)]
    assert hold_out(classes, 0.2, 1) == hold_out(classes, 0.2, 1) != hold_out(classes, 0.2, 2)
    assert len(hold_out(classes, 0.99, 0).seen) == 2
    with pytest.raises(SplitError):
        hold_out(["a", "b"], 0.2, 0)
