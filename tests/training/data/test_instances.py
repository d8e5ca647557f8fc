"""Groups below the classes: photos with the sketches that depict them, or with line drawings of them."""

from pathlib import Path

import numpy as np
import pytest

from training.data.instances import own_photos, with_instances, with_line_drawings
from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData, load_data


@pytest.fixture
def named() -> PairedData:
    """Two classes; one photo was drawn twice, one never."""
    sketches = ["bat/n1_7-1.png", "bat/n1_7-2.png", "bat/n1_8-1.png", "bat/other.png", "cow/n1_7-1.png"]
    photos = ["bat/n1_7.jpg", "bat/n1_8.jpg", "bat/n1_9.jpg", "cow/n2_1.jpg", "cow/n2_2.jpg"]
    groups = (Group("bat", (0, 1, 2, 3), (0, 1, 2)), Group("cow", (4,), (3, 4)))
    pairs = {
        Path(f"bat/n1_{photo}-{drawing}.png"): Path(f"bat/n1_{photo}.jpg")
        for photo, drawing in ((7, 1), (7, 2), (8, 1))
    }
    return PairedData(tuple(map(Path, sketches)), tuple(map(Path, photos)), groups, InstancePairs(pairs))


def test_instance_pairs_tie_sketches_to_photos_of_their_class(named):
    data = with_instances(named, 0.6)
    assert [(g.label, g.sketches, g.photos) for g in data.groups[2:]] == [("bat", (0, 1), (0,)), ("bat", (2,), (1,))]
    np.testing.assert_allclose(data.weights, [0.2, 0.2, 0.3, 0.3])
    assert data.classes == named.classes


def test_the_photo_of_each_sketch(named):
    assert own_photos(named).tolist() == [0, 0, 1, -1, -1]


def test_a_part_knows_its_own_photos_alone(named):
    part = named.without([0], [1])
    assert own_photos(part).tolist() == [0, -1, -1, -1]
    assert own_photos(named.select(["cow"])).tolist() == [-1]


def test_without_pairs_or_share_nothing_changes(named, shapes):
    assert with_instances(named, 0.0) == named
    assert with_instances(load_data(shapes), 0.6) == load_data(shapes)


def test_a_pair_of_a_table_is_no_second_group():
    pairs = InstancePairs({Path("a-1.png"): Path("a.jpg")})
    data = PairedData((Path("a-1.png"),), (Path("a.jpg"),), (Group("a.jpg", (0,), (0,)),), pairs)
    assert with_instances(data, 0.5) == data


def test_line_drawings_are_sketches_of_their_photo_alone(shapes, tmp_path):
    plain = load_data(shapes)
    data = with_line_drawings(plain, 0.3, tmp_path)
    assert data.sketches[: len(plain.sketches)] == plain.sketches
    assert data.photos == plain.photos
    own = data.groups[len(plain.groups) :]
    assert [len(group.sketches) for group in own] == [2] * len(plain.photos)
    assert [group.photos for group in own] == [(row,) for row in range(len(plain.photos))]
    assert data.weights[: len(plain.groups)].sum() == pytest.approx(0.7)
    held_out = data.select(["circle"])
    assert (len(held_out.sketches), len(held_out.photos)) == (6 + 12, 6)


def test_a_photo_that_cannot_be_read_has_no_drawing(shapes, tmp_path):
    data = load_data(shapes)
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    damaged = PairedData(data.sketches, (broken, *data.photos[1:]), data.groups)
    assert len(with_line_drawings(damaged, 0.3, tmp_path).groups) == len(data.groups) + len(data.photos) - 1
