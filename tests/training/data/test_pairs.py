import json
import os
import shutil

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
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


def test_without_needs_a_group_that_is_left(shapes, caplog):
    data = load_data(shapes)
    assert data.without(range(6, 24), []).classes == ("circle",)
    assert [record.getMessage().split(" have")[0] for record in caplog.records] == ["3 of 4 groups"]
    with pytest.raises(DataError, match="no sketch and photo that belong together"):
        data.without(range(24), [])


def test_a_broken_link_and_a_loop_are_listed_to_be_rejected(shapes, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(shapes, root)
    (root / "sketch" / "line" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "sketch" / "line" / "loop.png").symlink_to(root / "sketch" / "line" / "loop.png")
    (root / "sketch" / "line" / "folder.png").mkdir()
    names = {file.name for file in load_data(root).sketches if file.parent.name == "line"}
    assert names == {"gone.png", "loop.png", *(f"line-{number}.png" for number in range(6))}


def test_a_class_whose_name_is_not_text_is_refused(tmp_path):
    for side in ("sketch", "photo"):
        for name in (b"caf\xe9", b"tea"):
            folder = os.fsencode(tmp_path / side) + b"/" + name
            os.makedirs(folder)  # noqa: PTH103 - a path of bytes
            shutil.copyfile(__file__, os.fsdecode(folder) + "/a.png")
    with pytest.raises(DataError, match=r"whose name is not UTF-8, 'caf\\udce9'"):
        load_data(tmp_path)


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_tables_of_pairs(tmp_path, name):
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
        ("sketch,photo\na,\nb,c\n", "row 1: photo: empty"),
        ("sketch,photo,weight\na,b,1\na,b,heavy\n", "row 2: weight: 'heavy' is not a number"),
        ("sketch,photo,weight\na,b,inf\n", "row 1: weight: 'inf' is not a finite number"),
        ("sketch,photo,weight\na,b,1_0\n", "row 1: weight: '1_0' is not a number"),
        ("sketch,photo,weight\na,b,0\n", "row 1: weight: 0 is not greater than 0"),
        ("sketch, photo\na,b\n", "no column 'photo'; its columns are 'sketch', ' photo'"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_data(path)


def test_numbers_in_a_csv_table_stay_text(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("sketch,photo,class,weight\n007,01234,1,2\n7,1234,01,\n")
    data = load_data(path)
    assert {file.name for file in (*data.sketches, *data.photos)} == {"007", "01234", "7", "1234"}
    assert data.classes == ("01", "1")
    np.testing.assert_allclose(data.weights, [2 / 3, 1 / 3])


def test_parquet_columns_of_other_types_are_taken_as_text(tmp_path):
    table = pyarrow.table(
        {
            "sketch": pyarrow.array([1, 2]),
            "photo": pyarrow.array([b"a.jpg", b"b.jpg"], pyarrow.binary()),
            "class": pyarrow.array([10, 2]).dictionary_encode(),
            "weight": pyarrow.array([1, 3], pyarrow.int8()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
    data = load_data(tmp_path / "pairs.parquet")
    assert [file.name for file in data.sketches] == ["1", "2"]
    assert [file.name for file in data.photos] == ["a.jpg", "b.jpg"]
    assert [group.label for group in data.groups] == ["10", "2"]
    np.testing.assert_allclose(data.weights, [0.25, 0.75])


def test_a_path_with_a_nul_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"sketch": ["a\0b"], "photo": ["c"]}), tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match="row 1: sketch: holds a NUL"):
        load_data(tmp_path / "pairs.parquet")


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
