"""Classes of files and photos depicted, in data of classes, of instances and of both."""

from pathlib import Path

from training.data.memberships import class_memberships, depicted_photos
from training.data.pairing import InstancePairs
from training.data.pairs import Group, PairedData

SKETCHES, PHOTOS = (tuple(Path(f"{n}{suffix}") for n in range(4)) for suffix in (".png", ".jpg"))


def test_classes_are_the_labels_of_all_groups_of_a_file():
    groups = (Group("a", (0, 1), (0,)), Group("b", (1, 2), (1, 2)), Group("a", (0,), (0, 3)), Group("a", (3,), (3,)))
    sketches, photos = class_memberships(PairedData(SKETCHES, PHOTOS, groups))
    assert sketches.toarray().tolist() == [[1, 0], [1, 1], [0, 1], [1, 0]]
    assert photos.toarray().tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]


def test_photos_are_depicted_by_name_or_in_a_group_of_one():
    named = InstancePairs({SKETCHES[0]: PHOTOS[2], SKETCHES[3]: PHOTOS[1]}, "by name")
    groups = (Group("a", (0, 1, 3), (0, 1, 2)), Group("a", (2, 3), (3,)))
    assert depicted_photos(PairedData(SKETCHES, PHOTOS, groups, named)).tolist() == [2, -1, 3, 1]
