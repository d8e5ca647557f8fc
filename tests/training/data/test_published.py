"""Made-up trees in the layouts in which published data sets are distributed."""

import pytest

from training.base.errors import DataError, SplitError
from training.data.pairs import load_data
from training.data.splits import _QUICKDRAW_UNSEEN, load_split
from training.evaluation.protocol import evaluate
from training.model.bundle import load_bundle

CLASSES = ("bat", "cow", "hot-air_balloon")


def make(root, sketches, photos, classes=CLASSES):
    for folder, suffix in ((sketches, "-1.png"), (photos, ".jpg")):
        for label in classes:
            (root / folder / label).mkdir(parents=True, exist_ok=True)
            for number in range(2):
                (root / folder / label / f"n0{number}_7{suffix}").touch()


@pytest.mark.parametrize(
    ("sketches", "photos", "below"),
    [
        ("256x256/sketch/tx_000000000000", "256x256/photo/tx_000000000000", ""),
        ("256x256/sketch/tx_000000000000", "256x256/photo/tx_000000000000", "256x256"),
        ("256x256/sketch/tx_000000000000", "EXTEND_image_sketchy", ""),
        ("png", "ImageResized", ""),
        ("png_ready", "ImageResized_ready", ""),
        ("QuickDraw_sketches_final", "QuickDraw_images_final", ""),
        ("sketch", "photo", ""),
    ],
)
def test_folders_are_found_by_their_published_names(tmp_path, sketches, photos, below):
    make(tmp_path, sketches, photos)
    data = load_data(tmp_path / below)
    assert data.classes == CLASSES
    assert {file.relative_to(tmp_path).parts[0] for file in data.photos} == {photos.split("/")[0]}
    assert (len(data.sketches), len(data.photos)) == (6, 6)


def test_extended_photos_come_before_those_of_the_original(tmp_path):
    make(tmp_path, "256x256/sketch/tx_000000000000", "256x256/photo/tx_000000000000")
    make(tmp_path, "256x256/sketch/tx_000000000000", "EXTEND_image_sketchy")
    assert load_data(tmp_path).photos[0].is_relative_to(tmp_path / "EXTEND_image_sketchy")
    assert load_data(tmp_path / "256x256").photos[0].is_relative_to(tmp_path / "256x256" / "photo")


def test_a_class_that_photos_lack_is_named_with_its_folder(tmp_path):
    make(tmp_path, "png", "ImageResized")
    (tmp_path / "png" / "zebra").mkdir()
    (tmp_path / "png" / "zebra" / "1.png").touch()
    with pytest.raises(DataError, match=r"'zebra' is in .*png but not in .*ImageResized"):
        load_data(tmp_path)


@pytest.fixture
def lists(tmp_path):
    """Lists for files that are not all used, as SAKE's; one class is called with a space."""
    make(tmp_path, "png_ready", "ImageResized_ready", ("bat", "bear (animal)", "cow"))
    folder = tmp_path / "zeroshot"
    folder.mkdir()
    for name, suffix in (("png_ready", "-1.png"), ("ImageResized_ready", ".jpg")):
        for part, classes in (("train", ("cow", "bear (animal)")), ("zero", ("bat",)), ("test", ("cow",))):
            lines = [f"{name}/{label}/n00_7{suffix} {number}" for number, label in enumerate(classes)]
            (folder / f"{name}_filelist_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_listed_files_alone_are_read_and_the_zero_list_is_the_split(lists):
    data = load_data(lists)
    assert data.classes == ("bat", "bear (animal)", "cow")
    assert {file.name for file in (*data.sketches, *data.photos)} == {"n00_7-1.png", "n00_7.jpg"}
    assert all(file.is_file() for file in (*data.sketches, *data.photos))
    split = load_split(str(lists / "png_ready_filelist_zero.txt"), data.classes)
    assert split.unseen == ("bat",)
    assert split.seen == ("bear (animal)", "cow")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ImageResized_ready_filelist_zero.txt", None), "no list of its sketches or photos"),
        (("png_ready_filelist_train.txt", None), "png_ready_filelist_train.txt cannot be read"),
        (("png_ready_filelist_zero.txt", "png_ready/bat/1.png"), "is not a file list"),
        (("png_ready_filelist_zero.txt", "a/dog/1.png 0"), "as a class of sketches or"),
    ],
)
def test_lists_that_do_not_fit_are_named(lists, change, message):
    name, text = change
    (lists / name).unlink()
    if text is not None:
        (lists / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_data(lists)


def test_the_split_of_quickdraw_is_matched_however_folders_are_spelled():
    named = [name.replace(" ", "_") for name in _QUICKDRAW_UNSEEN]
    assert len(named) == 30
    split = load_split("quickdraw", [*named, "apple", "wine bottle"])
    assert list(split.unseen) == sorted(named)
    assert split.seen == ("apple", "wine bottle")
    with pytest.raises(SplitError, match="quickdraw names 1 classes the data set lacks, 'zebra' among them"):
        load_split("quickdraw", [*named[:-1], "apple", "wine bottle"])


def test_a_model_is_measured_on_an_archive_by_its_lists(tiny_bundle, shapes, tmp_path):
    folder = tmp_path / "zeroshot1"
    folder.mkdir()
    (tmp_path / "data").symlink_to(shapes)
    for name, side in (("sketch_tx_000000000000_ready", "sketch"), ("all_photo", "photo")):
        for part, classes in (("train", ("circle", "line")), ("zero", ("square", "triangle"))):
            lines = [f"data/{side}/{label}/{label}-{number}.png 0" for label in classes for number in range(3)]
            (folder / f"{name}_filelist_{part}.txt").write_text("\n".join(lines))
    split = str(folder / "sketch_tx_000000000000_ready_filelist_zero.txt")
    bundle = load_bundle(tiny_bundle, "cpu")
    report = evaluate(bundle, folder, split=split, cache=tmp_path / "cache", device=bundle.device)
    assert (report.queries, report.gallery, report.classes) == (6, 6, 2)
