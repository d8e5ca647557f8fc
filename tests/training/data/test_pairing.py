"""Which photo a sketch depicts, as far as file names say so."""

from pathlib import Path

import pytest

from training.data.pairing import ClassFiles, pairs_by_name
from training.data.pairs import load_data


def files(label, sketches, photos):
    """Files of a class by their names without suffix."""
    return ClassFiles(
        label,
        [Path("sketch", label, f"{stem}.png") for stem in sketches.split()],
        [Path("photo", label, f"{stem}.jpg") for stem in photos.split()],
    )


SKETCHY = [files("bat", "n1_7-1 n1_7-2 n1_8-1", "n1_7 n1_8 n1_9"), files("cow", "n2_1-1 n2_2-3", "n2_1 n2_2")]


def paired(classes, pairing="auto"):
    return {sketch.stem: photo.stem for sketch, photo in pairs_by_name(classes, pairing).photos.items()}


def test_names_of_the_sketchy_database():
    assert paired(SKETCHY) == {"n1_7-1": "n1_7", "n1_7-2": "n1_7", "n1_8-1": "n1_8", "n2_1-1": "n2_1", "n2_2-3": "n2_2"}
    pairs = pairs_by_name(SKETCHY)
    everything = [*SKETCHY[0].sketches, *SKETCHY[1].sketches]
    assert pairs.describe(everything) == "5 instance pairs by file names NAME-k of photo NAME"
    assert pairs.describe(SKETCHY[1].sketches) == "2 instance pairs by file names NAME-k of photo NAME"


def test_some_sketches_may_have_other_names_but_not_most():
    assert len(paired([*SKETCHY, files("owl", "owl-a owl-b drawn 17", "n3_1")])) == 5
    pairs = pairs_by_name([*SKETCHY, files("owl", "owl-a owl-b drawn 17 18", "n3_1")])
    assert not pairs.photos
    assert "5 of 10 are called NAME-k" in pairs.describe([])


@pytest.mark.parametrize(
    ("sketches", "photos"),
    [
        ("1 2 3", "1 2 3"),  # numbered on both sides
        ("12 13", "12 14"),
        ("12-1 12-2 13-1", "12 13"),  # a mere number is no name, though it may be one
        ("1-1 1-2 2-1", "1 2 3"),
        ("2019-05-01-1 2019-05-02-1", "2019-05-01 2019-05-02"),
        ("owl-1 owl-2 owl-3", "owl-1 owl-2 owl-3"),  # numbered after the class
        ("owl-4 owl-5", "owl owl-1 owl-2 owl-3"),  # one series that was divided
        ("owl-1 owl-2 owl-3", "owl other"),  # one photo named as the class
        ("Snowy_Owl-1 Snowy_Owl-2", "snowy-owl Snowy_Owl"),
        ("scan-3 scan-4", "scan scan-1 scan-2"),
        ("a-1 a-2 b-1 c", "a b c"),  # one sketch named as a photo: names do not count drawings
        ("a-x b-y", "a b"),
        ("a_1 b_1", "a b"),
    ],
)
def test_numbered_files_are_no_pairs(sketches, photos):
    label = "snowy owl" if "Snowy" in sketches else "owl"
    pairs = pairs_by_name([files(label, sketches, photos)])
    assert not pairs.photos
    assert pairs.describe([]).startswith("no instance pairs: file names do not tell")


def test_a_numbered_class_makes_names_of_the_others_doubtful():
    assert paired([*SKETCHY, files("owl", "1", "1")]) == {}


def test_names_are_taken_in_any_case_where_the_recipe_says_so():
    classes = [files("owl", "12-1 12-2 13 other", "12 13 14"), *SKETCHY]
    assert paired(classes, "names") == {"12-1": "12", "12-2": "12", "13": "13"} | paired(SKETCHY)
    assert paired([files("owl", "a-1 a-1-1", "a a-1")], "names") == {"a-1": "a-1", "a-1-1": "a-1"}
    assert not pairs_by_name([files("owl", "x", "y")], "names").photos


def test_none_are_taken_where_the_recipe_says_so():
    assert pairs_by_name(SKETCHY, "none").describe([]) == "no instance pairs: the recipe wants none"


def test_two_photos_of_one_name_tell_nothing():
    photos = [Path("photo/owl/2019/a.jpg"), Path("photo/owl/2020/a.jpg"), Path("photo/owl/b.jpg")]
    sketches = [Path("sketch/owl/a-1.png"), Path("sketch/owl/b-1.png"), Path("sketch/owl/b-2.png")]
    pairs = pairs_by_name([ClassFiles("owl", sketches, photos)])
    assert set(pairs.photos) == set(sketches[1:])


def test_rows_of_a_table_are_pairs_unless_a_sketch_has_several(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("sketch,photo\n1.png,1.jpg\n2.png,1.jpg\n3.png,1.jpg\n3.png,2.jpg\n")
    data = load_data(table)
    assert {sketch.name: photo.name for sketch, photo in data.instances.photos.items()} == {
        "1.png": "1.jpg",
        "2.png": "1.jpg",
    }
    assert data.instances.describe(data.sketches) == "2 instance pairs by the rows of the pairs table"
    assert not load_data(table, "none").instances.photos


def test_folders_are_read_by_the_same_rule(shapes, tmp_path):
    assert not load_data(shapes).instances.photos  # circle-0.png on both sides
    for side, suffix in (("sketch", "-1.png"), ("photo", ".png")):
        for file in (shapes / side).rglob("*.png"):
            copy = tmp_path / side / file.parent.name / f"{file.stem}{suffix}".replace("-", "n", 1)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(file)
    data = load_data(tmp_path)
    assert len(data.instances.photos) == 24
    assert len(data.select(["circle"]).instances.photos) == 24
    assert not load_data(tmp_path, "none").instances.photos
